// How many requests there were, and how long they took.
// In: the access log: so a request is counted once, when it has ended, and pays nothing for it. A
// variable that counts as the log is written costs each one 20 microseconds. Out: numbers in a
// dict that the workers share and a reload keeps. One worker reads (js_periodic), so none is
// counted twice.
import fs from 'fs';
import models from 'models.js';

const ONCE_BYTES = 1048576;
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
    const counts = Object.create(null);
    text.slice(0, end).split('\n').forEach(line => count(counts, line));
    Object.keys(counts).forEach(key => dict.incr(key, counts[key], 0));
}

// One line, as log_format has it: `… "METHOD PATH PROTOCOL" STATUS BYTES key=K model=M time=T first=F`.
function count(counts, line) {
    const words = line.slice(line.lastIndexOf('" ') + 2).split(' ');
    const key = said(words[2], 'key='), model = said(words[3], 'model=');
    const time = Number(said(words[4], 'time=')), first = said(words[5], 'first=');
    if (!key || !model || !first || !/^[1-5][0-9][0-9]$/.test(words[0]) || !(time >= 0)) {
        return;
    }
    add(counts, `requests ${model} ${key} ${words[0]}`, 1);
    // Of several servers that were tried, each has its time; `-` never answered.
    const answered = [first].concat(words.slice(6)).map(parseFloat).filter(each => each >= 0);
    if (model !== '-' && answered.length) {
        observe(counts, 'duration', model, time);
        observe(counts, 'first', model, answered.reduce((sum, each) => sum + each));
    }
}

function said(word, name) {
    return word && word.startsWith(name) ? word.slice(name.length) : '';
}

function observe(counts, what, model, seconds) {
    let at = 0;
    while (at < BOUNDS.length && seconds > BOUNDS[at]) {
        at++;
    }
    add(counts, `${what} ${model} ${at}`, 1);
    add(counts, `${what} ${model} sum`, seconds);
}

function add(counts, key, value) {
    counts[key] = (counts[key] || 0) + value;
}

// What was counted of one kind: pairs of the words that it was counted under, and a number.
function counted(kind) {
    const dict = ngx.shared.counts;
    return dict.keys(1000000).map(key => key.split(' ')).filter(words => words[0] === kind).sort()
        .map(words => [words.slice(1), dict.get(words.join(' '))]);
}

export default {BOUNDS, read, counted};
