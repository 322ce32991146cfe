// The gateway's router, run by nginx (njs). Rendered by llm-reconcile.
// In: a request whose path names no model. Out: an internal redirect to the model that its body
// (or ?model=) names, or an error in OpenAI's shape. It keeps no state but a second of probe answers.
import fs from 'fs';

const CONFIG = {"live_file": "@STATE@/gateway/live.json", "models": [{"aliases": [], "instances": [{"name": "bad", "sockets": ["bad-2f05d4b689d.sock", "bad-2f05d4b689d.a.sock", "bad-2f05d4b689d.b.sock"]}], "name": "bad", "port": null, "quant": "Q4_0", "state": "running"}, {"aliases": ["org/flags:latest"], "instances": [{"name": "flags", "sockets": ["fla-2934fb49d6b.sock", "fla-2934fb49d6b.a.sock", "fla-2934fb49d6b.b.sock"]}], "name": "flags", "port": @PORT1@, "quant": "Q4_0", "state": "running"}, {"aliases": [], "instances": [{"name": "gold", "sockets": ["gol-24d7f03d8dc.sock", "gol-24d7f03d8dc.a.sock", "gol-24d7f03d8dc.b.sock"]}], "name": "gold", "port": null, "quant": "Q4_0", "state": "running"}, {"aliases": [], "instances": [{"name": "off", "sockets": ["off-b4dc66dde80.sock", "off-b4dc66dde80.a.sock", "off-b4dc66dde80.b.sock"]}], "name": "off", "port": null, "quant": "Q4_0", "state": "running"}, {"aliases": [], "instances": [{"name": "pair", "sockets": ["pai-47d8bd46877.sock", "pai-47d8bd46877.a.sock", "pai-47d8bd46877.b.sock"]}, {"name": "pair[1]", "sockets": ["pai-79932a02392.sock", "pai-79932a02392.a.sock", "pai-79932a02392.b.sock"]}], "name": "pair", "port": null, "quant": "Q4_0", "state": "running"}, {"aliases": [], "instances": [{"name": "plain", "sockets": ["pla-a116c9ed46d.sock", "pla-a116c9ed46d.a.sock", "pla-a116c9ed46d.b.sock"]}], "name": "plain", "port": null, "quant": "Q4_0", "state": "running"}, {"aliases": [], "instances": [{"name": "swift", "sockets": ["swi-a33603bf79f.sock", "swi-a33603bf79f.a.sock", "swi-a33603bf79f.b.sock"]}], "name": "swift", "port": null, "quant": "Q4_0", "state": "running"}], "sockets": "@STATE@/s"};
const GENERATION = 'b3d2a7d49d34';
const RETRY_AFTER = '2';
const LIVE_MILLISECONDS = 1000;
const MODEL_KEY = '"model"';
const QUOTE = 34, BACKSLASH = 92, OPEN = 123, CLOSE = 125, LIST = 91, UNLIST = 93;
const COLON = 58, COMMA = 44;

// Keys carry a prefix: an alias may be any text, also `__proto__`.
const BY_NAME = {};
CONFIG.models.forEach(model => model.aliases.forEach(alias => { BY_NAME['=' + alias] = model; }));
CONFIG.models.forEach(model => { BY_NAME['=' + model.name] = model; });
const ROUTED = CONFIG.models.filter(model => model.instances.length > 0);

function find(name) {
    return BY_NAME['=' + name];
}

function json(r, status, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

function fail(r, status, message, code, type) {
    json(r, status, {
        error: {
            message: message,
            type: type || (status >= 500 ? 'server_error' : 'invalid_request_error'),
            param: code === 'model_not_found' ? 'model' : null,
            code: code,
        },
    });
}

function unavailable(r, message) {
    fail(r, 503, message, 'model_not_available', 'unavailable_error');
}

function unknown(r, name) {
    const known = CONFIG.models.map(model =>
        model.aliases.length ? `${model.name} (${model.aliases.join(', ')})` : model.name);
    const names = known.length ? `known models: ${known.join(', ')}` : 'no models are known here';
    fail(r, 404, `unknown model '${name.slice(0, 200)}'; ${names}`, 'model_not_found');
}

function notServed(r, model) {
    const why = model.state === 'running' ? 'replicas: 0' : `state: ${model.state}`;
    unavailable(r, `model '${model.name}' is not running here (${why} in the desired file)`);
}

function notFound(r) {
    fail(r, 404, `there is nothing at ${r.uri.slice(0, 200)}; see / for what is served here`,
         'not_found');
}

function tooLarge(r) {
    fail(r, 413, 'the body is too large to be routed by the model it names; send it to ' +
         '/api/MODEL/v1/... or to the port of the model, which take any size', 'body_too_large');
}

function broken(r) {
    fail(r, 500, 'the gateway failed on this request; its error log says why', 'gateway_error');
}

// nginx got no answer from the model's server.
function failed(r) {
    const name = r.variables.model;
    const connected = (r.variables.upstream_connect_time || '-').split(/[,: ]+/).pop() !== '-';
    if (!connected) {
        r.headersOut['Retry-After'] = RETRY_AFTER;
        unavailable(r, `the server of model '${name}' does not answer: it is starting, ` +
                    'restarting, or has exited; `llm-reconcile status` says which');
    } else {
        fail(r, 502, `the server of model '${name}' broke off before it answered`, 'bad_gateway');
    }
}

// ---- which model a request names

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

function isObject(value) {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
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

function route(r) {
    let name = null;
    if (r.requestBuffer && r.requestBuffer.length) {
        name = modelOf(r.requestBuffer);
    }
    if (name === null || name === '') {
        name = r.args.model === undefined ? null : r.args.model;
    }
    if (name !== null && typeof name !== 'string') {
        fail(r, 400, '`model` must be one text', 'bad_model');
        return;
    }
    if (name === null && ROUTED.length !== 1) {
        const names = ROUTED.map(model => model.name).join(', ');
        fail(r, 400, 'name a model: `model` in the JSON body, or ?model= ' +
             (names ? `(running: ${names})` : '(none is running)'), 'model_required');
        return;
    }
    const model = name === null ? ROUTED[0] : find(name);
    if (!model) {
        unknown(r, name);
    } else if (!model.instances.length) {
        notServed(r, model);
    } else {
        r.internalRedirect('@model_' + model.name);
    }
}

function unknownApi(r) {
    const name = r.uri.split('/')[2];
    const model = CONFIG.models.find(model => model.name === name);
    if (model) {
        notServed(r, model);
    } else {
        unknown(r, name);
    }
}

// ---- lists

function entry(model) {
    return {id: model.name, object: 'model', created: 0, owned_by: 'llm-reconcile',
            aliases: model.aliases};
}

function list(r) {
    json(r, 200, {object: 'list', data: ROUTED.map(entry)});
}

function listOne(r) {
    const name = r.uri.slice('/v1/models/'.length);
    const model = find(name);
    if (model && model.instances.length) {
        json(r, 200, entry(model));
    } else if (model) {
        notServed(r, model);
    } else {
        unknown(r, name);
    }
}

const PHASES = ['ready', 'starting', 'unhealthy', 'exited'];

// The best answer of an instance's sockets: its route, or a copy that is not routed (yet).
async function probe(r, instance) {
    let best = 'exited';
    for (let i = 0; i < instance.sockets.length && best !== 'ready'; i++) {
        const socket = instance.sockets[i];
        if (!fs.existsSync(`${CONFIG.sockets}/${socket}`)) {
            continue;
        }
        const reply = await r.subrequest(`/-/health/${socket}`, {method: 'GET'});
        const phase = {'200': i === 0 ? 'ready' : 'starting', '503': 'starting',
                       '204': 'exited'}[reply.status] || 'unhealthy';
        best = better(best, phase);
    }
    return best;
}

function better(one, other) {
    return PHASES.indexOf(other) < PHASES.indexOf(one) ? other : one;
}

function notes() {
    try {
        const value = JSON.parse(fs.readFileSync(CONFIG.live_file, 'utf8'));
        return isObject(value) ? value : {};
    } catch (error) {
        return {};
    }
}

// All phases, at most a second old, shared by the workers.
async function live(r) {
    const cache = ngx.shared.live;
    const kept = JSON.parse(cache.get(GENERATION) || 'null');
    const now = Date.now();
    if (kept && now >= kept.at && now - kept.at < LIVE_MILLISECONDS) {
        return kept;
    }
    const instances = [];
    ROUTED.forEach(model => model.instances.forEach(instance => instances.push(instance)));
    const answers = await Promise.all(instances.map(instance => probe(r, instance)));
    const fresh = {at: now, phases: {}, notes: notes()};
    instances.forEach((instance, i) => { fresh.phases[instance.name] = answers[i]; });
    try {
        cache.set(GENERATION, JSON.stringify(fresh));
    } catch (error) {
        r.warn(`phases are not cached: ${error}`);
    }
    return fresh;
}

function orNull(value) {
    return value === undefined ? null : value;
}

async function models(r) {
    const now = await live(r);
    const base = `${r.variables.scheme}://${r.headersIn.Host}`;
    const entries = CONFIG.models.map(model => {
        const noted = model.instances.map(each => now.notes[each.name]).filter(isObject);
        const first = noted.length ? noted[0] : {};
        const restarts = noted.map(each => each.restarts).filter(each => typeof each === 'number');
        const phase = model.instances.length
            ? model.instances.map(each => now.phases[each.name]).reduce(better)
            : 'absent';
        return {
            name: model.name,
            aliases: model.aliases,
            // Nobody answers; whether that is as an operator wants it only the note knows.
            phase: phase === 'exited' && first.phase ? first.phase : phase,
            quant: model.quant,
            port: model.port,
            size_bytes: orNull(first.size_bytes),
            since: orNull(first.since),
            restarts: restarts.length ? restarts.reduce((sum, each) => sum + each) : null,
            reason: orNull(first.reason),
            url: `${base}/api/${model.name}/v1`,
        };
    });
    r.headersOut['Cache-Control'] = 'no-store';
    json(r, 200, {models: entries, generation: GENERATION});
}

export default {route, models, list, listOne, unknownApi, notFound, tooLarge, broken, failed};
