// What runs leave to be read: /api/status, /api/history.
// In: the files that llm-reconcile writes into its state folder. Out: JSON, of which a key that is
// meant for some models sees what is about these. A file that is not there says nothing.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import bodies from 'bodies.js';
import models from 'models.js';

function parsed(text) {
    try {
        const value = JSON.parse(text);
        return bodies.isObject(value) ? value : {};
    } catch (error) {
        return {};
    }
}

function read(path) {
    try {
        return fs.readFileSync(path, 'utf8');
    } catch (error) {
        return '';
    }
}

function array(value) {
    return Array.isArray(value) ? value : [];
}

function objects(value) {
    return array(value).filter(bodies.isObject);
}

// Files on their way, of the processes that fetch them and live.
function downloads() {
    let names = [];
    try {
        names = fs.readdirSync(models.FOLDER);
    } catch (error) {
        // Then there is nothing to be read.
    }
    const found = names.filter(name => /^downloads\.\d+\.json$/.test(name))
        .map(name => parsed(read(`${models.FOLDER}/${name}`)))
        .filter(one => lives(array(one.process)))
        .map(one => objects(one.downloads));
    return [].concat.apply([], found);
}

// What keeps it so, if it lives. Its words may speak of any model.
function watch(r) {
    const one = parsed(read(`${models.FOLDER}/watch.json`));
    if (!access.isUnlimited(r) || !lives(array(one.process))) {
        return null;
    }
    return {pid: one.process[0], since: one.since, trouble: one.trouble, held: one.held};
}

// All of /api/status, for whoever may see all.
function whole() {
    const noted = parsed(read(`${models.FOLDER}/status.json`));
    return {at: noted.at || null, file: noted.file || null, pending: objects(noted.pending),
            downloads: downloads()};
}

// Changes of the whole root, such as the gateway's, are for keys without a limit.
function mayRead(r, change) {
    const isOnes = change.type === 'instance' || change.type === 'model_file';
    return isOnes ? access.mayUse(r, {name: String(change.name).replace(/\[\d+\]$/, '')})
                  : access.isUnlimited(r);
}

function say(r, body) {
    r.headersOut['Cache-Control'] = 'no-store';
    answers.json(r, 200, body);
}

// The same as far as the key may know it.
function known(r) {
    const all = whole();
    all.watch = watch(r);
    all.pending = all.pending.filter(change => mayRead(r, change));
    all.downloads = all.downloads.filter(one => access.mayUse(r, {name: one.model}));
    return all;
}

function status(r) {
    say(r, known(r));
}

const MOST_RECORDS = 20;
// Of a longer file its end is enough: all of it would hold a worker up for some 20 ms.
const LARGEST_TAIL = 256 * 1024;

function tail(path) {
    try {
        const whole = fs.readFileSync(path);
        return whole.slice(Math.max(0, whole.length - LARGEST_TAIL)).toString();
    } catch (error) {
        return '';
    }
}

// The last records, the newest first. A run has a line when it begins and one when it has ended.
function last() {
    const lines = tail(`${models.FOLDER}/../history.jsonl`).split('\n');
    const known = {}, found = [];
    while (lines.length && found.length < MOST_RECORDS) {
        const record = parsed(lines.pop());
        if (record.number && !known[record.number]) {
            known[record.number] = true;
            found.push(record);
        }
    }
    return found.sort((a, b) => b.number - a.number);
}

// Whether this very process lives (proc(5): field 22 is when it was started).
function lives(ref) {
    const stat = read(`/proc/${ref[0]}/stat`);
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === String(ref[1]);
}

function seen(r, record) {
    const changes = array(record.changes).filter(change => mayRead(r, change));
    if (!access.isUnlimited(r)) {
        // They may speak of any model.
        record.more = 0;
        record.message = '';
    }
    delete record.process;
    return Object.assign(record, {changes: changes});
}

// The same; of who lives no more without having noted its end, that it was killed.
function ended() {
    const first = last();
    const isRunning = record => record.outcome === 'running';
    const dead = first.filter(record => isRunning(record) && !lives(array(record.process)))
        .map(record => record.number);
    // They may have noted their end, and ended, since the first look.
    const found = dead.length ? last() : first;
    found.filter(record => isRunning(record) && dead.includes(record.number))
        .forEach(record => { record.outcome = 'killed'; });
    return found;
}

function history(r) {
    const records = ended().map(record => seen(r, record));
    say(r, {records: records.filter(each => access.isUnlimited(r) || each.changes.length)});
}

export default {known, status, history};
