// Which conversation a request belongs to. Its turns begin alike, so the server that made the last
// one has most of the next one's prompt in its cache.
// In: a request and its body. Out: a text that is the same for each turn, or an empty one.
import crypto from 'crypto';
import bodies from 'bodies.js';

const TALKS = /\/(?:chat\/completions|completions?|messages|responses)$/;
const OPENINGS = ['messages', 'prompt', 'input'];
// Of a prompt that is one text: enough to tell two of them apart, little enough to stay the same.
const PROMPT_BYTES = 1024;
// What is looked at in search of either end, so that no body holds a worker. An opening that is
// longer is the same so far.
const WINDOW = 262144;
const SPACE = 32, QUOTE = 34, OPEN = 123, CLOSE = 125, LIST = 91, UNLIST = 93, COLON = 58;

function of(r, body) {
    const given = r.headersIn['X-Conversation-Id'];
    if (given) {
        return given;
    }
    const opening = body && body.length && TALKS.test(r.uri) ? openingOf(body) : null;
    return opening ? crypto.createHash('md5').update(opening).digest('hex') : '';
}

// The bytes from the first message to the first one of the user, or the head of the prompt.
function openingOf(body) {
    const start = openingAt(body.subarray(0, WINDOW));
    if (start < 0) {
        return null;
    }
    const opening = body.subarray(start, start + WINDOW);
    return opening.subarray(0, opening[0] === LIST ? endOfOpening(opening) : PROMPT_BYTES);
}

// Where the value of the first of those keys begins, if it is a list or a text.
function openingAt(body) {
    let depth = 0;
    for (let i = 0; i < body.length; i++) {
        const c = body[i];
        if (c === QUOTE) {
            const end = bodies.endOfString(body, i);
            const isKey = depth === 1 && OPENINGS.indexOf(short(body, i + 1, end)) >= 0;
            const at = isKey ? afterSpace(body, end + 1) : -1;
            const value = isKey && body[at] === COLON ? afterSpace(body, at + 1) : -1;
            if (body[value] === QUOTE || body[value] === LIST) {
                return value;
            }
            i = end;
        } else if (c === OPEN || c === LIST) {
            depth++;
        } else if (c === CLOSE || c === UNLIST) {
            depth--;
        }
    }
    return -1;
}

function afterSpace(body, at) {
    while (body[at] <= SPACE) {
        at++;
    }
    return at;
}

// Where the first message of the user ends. A list that ends without one is a prompt in parts.
function endOfOpening(body) {
    let depth = 0, last = '', isUser = false;
    for (let i = 0; i < body.length; i++) {
        const c = body[i];
        if (c === QUOTE) {
            const end = bodies.endOfString(body, i);
            const text = depth === 2 ? short(body, i + 1, end) : '';
            isUser = isUser || last === 'role' && text === 'user';
            last = text;
            i = end;
        } else if (c === OPEN || c === LIST) {
            depth++;
        } else if (c === CLOSE || c === UNLIST) {
            depth--;
            if (depth === 0) {
                return Math.min(i, PROMPT_BYTES);
            }
            if (depth === 1 && isUser) {
                return i + 1;
            }
        }
    }
    return body.length;
}

// A text, if it is as short as the words that are looked for.
function short(body, from, to) {
    return to - from < 16 ? body.toString('utf8', from, to) : '';
}

export default {of};
