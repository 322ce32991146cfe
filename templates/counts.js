// How many requests there were, and how long they took.
// In: the access log: so a request is counted once, when it has ended, and pays nothing for it. A
// variable that counts as the log is written costs each one 20 microseconds. Out: numbers in a
// dict that the workers share and a reload keeps. One worker reads (js_periodic), so none is
// counted twice.
import fs from 'fs';
import models from 'models.js';

// Some 2,000 requests: reading them takes its worker ten milliseconds.
const ONCE_BYTES = 262144;
// Upper bounds in seconds, for answers of 10 ms and of half an hour.
const BOUNDS = [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

function read() {
    let log;
    try {
        log = fs.openSync(`${models.FOLDER}/logs/access.log`, 'r');
    } catch (error) {
        return;
    }
    try {
        readFrom(log, ngx.shared.counts);
    } finally {
        fs.closeSync(log);
    }
}

function readFrom(log, dict) {
    const stat = fs.fstatSync(log), began = dict.get('began') || 0;
    const isSame = dict.get('inode') === stat.ino && began <= stat.size;
    const from = isSame ? began : 0;
    const bytes = Buffer.alloc(Math.min(ONCE_BYTES, stat.size - from));
    const length = fs.readSync(log, bytes, 0, bytes.length, from);
    const text = bytes.toString('utf8', 0, length);
    // A part of a line waits for its end; one without end that fills all is none.
    const end = text.lastIndexOf('\n') + 1 || (length === ONCE_BYTES ? length : 0);
    dict.set('inode', stat.ino);
    dict.set('began', from + end);
    const groups = Object.create(null);
    text.slice(0, end).split('\n').forEach(line => note(groups, line));
    Object.keys(groups).forEach(words => keep(dict, words, groups[words]));
}

// One line, as log_format has it: `… "METHOD PATH PROTOCOL" STATUS BYTES key=K model=M time=T first=F`.
// What it says is looked at once for all that are alike: of each only the times.
function note(groups, line) {
    const words = line.slice(line.lastIndexOf('" ') + 2).split(' ');
    const duration = words.length < 6 ? NaN : Number(words[4].slice(5));
    if (!(duration >= 0)) {
        return;
    }
    const like = words[0] + ' ' + words[2] + ' ' + words[3];
    const group = groups[like] || (groups[like] = {count: 0, duration: times(), first: times()});
    let first = Number(words[5].slice(6));
    if (words.length > 6) {
        // Of several servers that were tried, each has its time.
        first = sum(words.slice(5).map(word => parseFloat(word.replace('first=', ''))));
    }
    group.count++;
    // `-` never answered.
    if (first >= 0) {
        observe(group.duration, duration);
        observe(group.first, first);
    }
}

function times() {
    return {sum: 0, buckets: BOUNDS.map(() => 0).concat(0)};
}

function sum(values) {
    const known = values.filter(each => each >= 0);
    return known.length ? known.reduce((all, each) => all + each) : NaN;
}

function observe(seen, seconds) {
    let at = 0;
    while (seconds > BOUNDS[at]) {
        at++;
    }
    seen.buckets[at]++;
    seen.sum += seconds;
}

// Lines that are alike: into the dict.
function keep(dict, like, group) {
    const said = /^([1-5][0-9][0-9]) key=([^ ]+) model=([^ ]+)$/.exec(like);
    if (!said) {
        return;
    }
    const model = said[3];
    dict.incr(`requests ${model} ${said[2]} ${said[1]}`, group.count, 0);
    (model === '-' ? [] : ['duration', 'first']).forEach(what => {
        const seen = group[what];
        seen.buckets.forEach((count, at) => {
            if (count) {
                dict.incr(`${what} ${model} ${at}`, count, 0);
            }
        });
        dict.incr(`${what} ${model} sum`, seen.sum, 0);
    });
}

// What was counted of one kind: pairs of the words that it was counted under, and a number.
function counted(kind) {
    const dict = ngx.shared.counts;
    return dict.keys(1000000).map(key => key.split(' ')).filter(words => words[0] === kind).sort()
        .map(words => [words.slice(1), dict.get(words.join(' '))]);
}

export default {BOUNDS, read, counted};
