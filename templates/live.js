// What runs now: /api/models and the lists of models.
// In: the models' sockets, asked by subrequests, and the notes of the last run. Out: JSON.
// It keeps no state but a second of those answers.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import bodies from 'bodies.js';
import models from 'models.js';

const LIVE_MILLISECONDS = 1000;

function entry(model) {
    return {id: model.name, object: 'model', created: 0, owned_by: 'llm-reconcile',
            aliases: model.aliases};
}

function list(r) {
    answers.json(r, 200, {object: 'list', data: access.usable(r).map(entry)});
}

function listOne(r) {
    const name = r.uri.slice('/v1/models/'.length);
    const model = access.admit(r, name, models.find(name));
    if (model) {
        answers.json(r, 200, entry(model));
    }
}

function notes() {
    let value = null;
    try {
        value = JSON.parse(fs.readFileSync(models.LIVE_FILE, 'utf8'));
    } catch (error) {
        return {};
    }
    if (!bodies.isObject(value)) {
        return {};
    }
    const now = Date.now() / 1000;
    // What an operator stopped until then is by now only not started yet.
    const isOver = note => bodies.isObject(note) && note.until && note.until <= now;
    Object.keys(value).filter(name => isOver(value[name])).forEach(name => { value[name] = {}; });
    return value;
}

const PHASES = ['ready', 'starting', 'unhealthy', 'exited'];

// The best answer of an instance's sockets: its route, or a copy that is not routed (yet).
async function probe(r, instance) {
    const routed = routedCopy(instance);
    let best = 'exited';
    for (let i = 0; i < instance.sockets.length && best !== 'ready'; i++) {
        const socket = instance.sockets[i];
        if (!fs.existsSync(`${models.SOCKETS}/${socket}`) || socket === routed) {
            continue;
        }
        const reply = await r.subrequest(`/-/health/${socket}`, {method: 'GET'});
        const phase = {'200': i === 0 ? 'ready' : 'starting', '503': 'starting',
                       '204': 'exited'}[reply.status] || 'unhealthy';
        best = better(best, phase);
    }
    return best;
}

// The copy that the route leads to: who does not answer there need not be waited for twice.
function routedCopy(instance) {
    try {
        return fs.realpathSync(`${models.SOCKETS}/${instance.sockets[0]}`).split('/').pop();
    } catch (error) {
        return null;
    }
}

function better(one, other) {
    return PHASES.indexOf(other) < PHASES.indexOf(one) ? other : one;
}

// All phases, at most a second old, shared by the workers.
async function live(r) {
    const cache = ngx.shared.live;
    const kept = JSON.parse(cache.get(models.GENERATION) || 'null');
    const now = Date.now();
    if (kept && now >= kept.at && now - kept.at < LIVE_MILLISECONDS) {
        return kept;
    }
    const instances = [];
    models.routed().forEach(model => model.instances.forEach(instance => instances.push(instance)));
    const found = await Promise.all(instances.map(instance => probe(r, instance)));
    // Now: a server that does not answer has taken longer than what is kept holds.
    const fresh = {at: Date.now(), phases: {}, notes: notes()};
    instances.forEach((instance, i) => { fresh.phases[instance.name] = found[i]; });
    try {
        cache.set(models.GENERATION, JSON.stringify(fresh));
    } catch (error) {
        r.warn(`phases are not cached: ${error}`);
    }
    return fresh;
}

function orNull(value) {
    return value === undefined ? null : value;
}

async function table(r) {
    const now = await live(r);
    const base = `${r.variables.scheme}://${r.headersIn.Host}`;
    const entries = access.visible(r).map(model => {
        const noted = model.instances.map(each => now.notes[each.name]).filter(bodies.isObject);
        const first = noted.length ? noted[0] : {};
        const restarts = noted.map(each => each.restarts).filter(each => typeof each === 'number');
        const phases = model.instances.map(each => now.phases[each.name]);
        const phase = phases.length ? phases.reduce(better) : 'absent';
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
            replicas: phases.length,
            ready: phases.filter(each => each === 'ready').length,
            url: `${base}/api/${model.name}/v1`,
        };
    });
    r.headersOut['Cache-Control'] = 'no-store';
    answers.json(r, 200, {models: entries, generation: models.GENERATION});
}

export default {notes, live, table, list, listOne};
