// /api/logs/NAME: the last lines that a model's server wrote.
// In: ?lines= how many, ?after= the byte up to which they are known, ?replica= whose. Out: text, with
// where it starts and ends in the file as headers. It opens only what models.js names, and reads its end.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import models from 'models.js';

const PREFIX = '/api/logs/';
const MOST_BYTES = 65536;
const USUAL_LINES = 100;
const NEWLINE = 10;

// The number of that name in the query; NaN if it is none.
function argument(r, name, usual) {
    const value = r.args[name];
    if (value === undefined) {
        return usual;
    }
    return typeof value === 'string' && /^[0-9]{1,15}$/.test(value) ? Number(value) : NaN;
}

function isContinued(byte) {
    return (byte & 0xC0) === 0x80;
}

// Where the bytes end that are whole characters: a writer may be in the middle of one.
function wholeUntil(bytes) {
    let last = bytes.length - 1;
    while (last >= 0 && bytes.length - last < 4 && isContinued(bytes[last])) {
        last--;
    }
    const first = last >= 0 ? bytes[last] : 0;
    const length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    return first >= 0xC0 && last + length > bytes.length ? last : bytes.length;
}

// Where the line begins that follows a cut; a line that is longer than all of it, anywhere.
function lineStart(bytes) {
    const newline = bytes.indexOf('\n');
    let start = newline + 1;
    while (start < 4 && start < bytes.length && isContinued(bytes[start])) {
        start++;
    }
    return start;
}

// Where the last so many lines begin.
function lastLines(bytes, start, end, lines) {
    let at = end > start && bytes[end - 1] === NEWLINE ? end - 1 : end;
    for (let left = lines; at > start; at--) {
        if (bytes[at - 1] === NEWLINE && --left === 0) {
            return at;
        }
    }
    return lines > 0 ? start : end;
}

// The part of an open file that is asked for: its bytes, and where they start.
function part(fd, lines, after, aside) {
    const size = fs.fstatSync(fd).size;
    // It is smaller than it was: what was set aside is NAME.log.1 now, and the rest has moved by as
    // much; or it is another file.
    const moved = after <= size ? after : Math.max(0, after - aside);
    const known = moved <= size ? moved : 0;
    const from = Math.max(known, size - MOST_BYTES);
    const room = Buffer.alloc(size - from);
    const bytes = room.subarray(0, fs.readSync(fd, room, 0, room.length, from));
    const end = wholeUntil(bytes);
    const cut = from === known ? 0 : Math.min(lineStart(bytes), end);
    const start = lastLines(bytes, cut, end, lines);
    return {bytes: bytes.subarray(start, end), start: from + start};
}

function sizeOf(path) {
    try {
        return fs.statSync(path).size;
    } catch (error) {
        return 0;
    }
}

function read(path, lines, after) {
    // Not what blocks whoever opens it, as a pipe does.
    if (!fs.statSync(path).isFile()) {
        throw new Error(`${path} is no file`);
    }
    const fd = fs.openSync(path, 'r');
    try {
        return part(fd, lines, after, sizeOf(path + '.1'));
    } finally {
        fs.closeSync(fd);
    }
}

function tail(r) {
    const name = r.uri.slice(PREFIX.length);
    const model = access.permit(r, name, models.all().find(each => each.name === name));
    if (!model) {
        return;
    }
    const after = argument(r, 'after', 0), replica = argument(r, 'replica', 0);
    const lines = argument(r, 'lines', r.args.after === undefined ? USUAL_LINES : MOST_BYTES);
    if (isNaN(after) || isNaN(replica) || isNaN(lines)) {
        answers.fail(r, 400, '`lines`, `after` and `replica` are numbers', 'bad_argument');
        return;
    }
    let found;
    try {
        found = read(model.logs[replica] || '', lines, after);
    } catch (error) {
        answers.fail(r, 404, `there is no log of '${name}' yet`, 'not_found');
        return;
    }
    r.headersOut['Cache-Control'] = 'no-store';
    r.headersOut['Content-Type'] = 'text/plain; charset=utf-8';
    r.headersOut['X-Content-Type-Options'] = 'nosniff';
    r.headersOut['X-Log-Start'] = String(found.start);
    r.headersOut['X-Log-End'] = String(found.start + found.bytes.length);
    r.return(200, found.bytes);
}

export default {tail};
