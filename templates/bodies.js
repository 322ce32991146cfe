// Which model a body names, whatever its size and depth.
// In: the bytes of a JSON body or of a form. Out: its `model`, as it stands there. It answers nobody.

const MODEL_KEY = '"model"';
const QUOTE = 34, BACKSLASH = 92, OPEN = 123, CLOSE = 125, LIST = 91, UNLIST = 93;
const COLON = 58, COMMA = 44;

// The top-level `model` of a JSON body: a text; null if there is none. Anything else as it is.
function modelOf(body) {
    const at = body.indexOf(MODEL_KEY);
    if (at < 0 && body.indexOf('\\u') < 0) {
        return null;
    }
    if (at >= 0 && body.indexOf(MODEL_KEY, at + 1) < 0) {
        const quick = quickModel(body, at);
        if (quick !== undefined) {
            return quick;
        }
    }
    try {
        const value = JSON.parse(body.toString());
        return isObject(value) && value.model !== undefined ? value.model : null;
    } catch (error) {
        // njs parses 31 levels; a tool's JSON schema may be deeper. All else is no JSON.
        return String(error).indexOf('too deep') >= 0 ? scanModel(body) : null;
    }
}

// The one `"model"` of the body is a top-level key exactly if what stands before it, closed, is an
// object; or what stands after it, opened. So only the shorter side is parsed.
function quickModel(body, at) {
    const value = /^[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")/.exec(
        body.toString('utf8', at + MODEL_KEY.length, at + 2048));
    if (!value || body[at - 1] === BACKSLASH) {
        return undefined;
    }
    try {
        const side = at <= body.length / 2
            ? body.toString('utf8', 0, at) + '"model":0}'
            : '{' + body.toString('utf8', at);
        return isObject(JSON.parse(side)) ? JSON.parse(value[1]) : undefined;
    } catch (error) {
        return undefined;
    }
}

// Where the string that starts at `from` ends (its closing quote).
function endOfString(body, from) {
    let end = from;
    for (;;) {
        end = body.indexOf('"', end + 1);
        if (end < 0) {
            return body.length;
        }
        let slashes = 0;
        while (body[end - 1 - slashes] === BACKSLASH) {
            slashes++;
        }
        if (slashes % 2 === 0) {
            return end;
        }
    }
}

// The same for JSON of any depth: walk over the tokens, jump over the strings.
function scanModel(body) {
    let depth = 0, key = '', isKey = false, found = null;
    for (let i = 0; i < body.length; i++) {
        const c = body[i];
        if (c === QUOTE) {
            const end = endOfString(body, i);
            if (depth === 1) {
                const text = JSON.parse(body.toString('utf8', i, end + 1));
                if (isKey) {
                    key = text;
                } else if (key === 'model') {
                    found = text;
                }
            }
            i = end;
        } else if (c === OPEN || c === LIST) {
            depth++;
            isKey = depth === 1 && c === OPEN;
        } else if (c === CLOSE || c === UNLIST) {
            depth--;
        } else if (depth === 1 && c === COLON) {
            isKey = false;
        } else if (depth === 1 && c === COMMA) {
            isKey = true;
        }
    }
    return found;
}

// The same of a form, as for audio: the text of its field `model`. Files are jumped over.
function modelOfForm(body, type) {
    const boundary = /;[ \t]*boundary=(?:"([^"]+)"|([^ \t;"]+))/i.exec(type);
    const mark = boundary ? '--' + (boundary[1] || boundary[2]) : '';
    let at = mark ? body.indexOf(mark) : -1;
    while (at >= 0) {
        const text = body.indexOf('\r\n\r\n', at);
        const end = text < 0 ? -1 : body.indexOf('\r\n' + mark, text + 4);
        if (end < 0) {
            return null;
        }
        const head = body.toString('utf8', at + mark.length, text);
        if (/\r\ncontent-disposition:[^\r\n]*;[ \t]*name="?model"?[ \t]*(?:[;\r]|$)/i.test(head)) {
            return body.toString('utf8', text + 4, end);
        }
        at = end + 2;
    }
    return null;
}

function isObject(value) {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export default {endOfString, isObject, modelOf, modelOfForm};
