// /metrics: one page for Prometheus.
// In: what live.js and scrape.js know of the servers and counts.js of requests, the notes of the last
// run, /proc. Out: text in the exposition format 0.0.4. A key that is for some models sees only these. It keeps no state.
import fs from 'fs';
import access from 'access.js';
import bodies from 'bodies.js';
import counts from 'counts.js';
import live from 'live.js';
import models from 'models.js';
import records from 'records.js';
import scrape from 'scrape.js';

const PHASES = ['exited', 'ready', 'starting', 'suspended', 'unhealthy'];

function quoted(value) {
    const text = String(value).replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
    return `"${text}"`;
}

function labels(values) {
    return Object.keys(values).map(name => `${name}=${quoted(values[name])}`).join(',');
}

function isNumber(value) {
    return typeof value === 'number' && isFinite(value);
}

// A family of our own. Samples are labels, a value, and what is added to the name; what has no value
// is left out, and what is said twice: of a page with that, Prometheus takes nothing.
function own(name, type, help, samples) {
    const full = `llm_reconcile_${name}`, lines = [], seen = Object.create(null);
    samples.filter(each => isNumber(each[1])).forEach(each => {
        const inside = labels(each[0]);
        const series = `${full}${each[2] || ''}${inside ? `{${inside}}` : ''}`;
        if (!seen[series]) {
            seen[series] = true;
            lines.push(`${series} ${each[1]}`);
        }
    });
    return {name: full, type: type, help: help, lines: lines};
}

// The resident memory of the process that a note names; null if it is gone, and its pid another's.
function memory(note) {
    if (!isNumber(note.pid) || !isNumber(note.start_ticks)) {
        return null;
    }
    try {
        const status = fs.readFileSync(`/proc/${note.pid}/status`, 'utf8');
        // Read last: what was read before it is of the process that lives now.
        const stat = fs.readFileSync(`/proc/${note.pid}/stat`, 'utf8');
        const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
        const resident = /^VmRSS:\s+([0-9]+) kB$/m.exec(status);
        return ticks === note.start_ticks && resident ? Number(resident[1]) * 1024 : null;
    } catch (error) {
        return null;
    }
}

// All instances that the key may see, with what is known of each.
async function instances(r, visible) {
    const now = await live.live(r), found = [];
    visible.forEach(model => model.instances.forEach((instance, number) => {
        const noted = now.notes[instance.name], note = bodies.isObject(noted) ? noted : {};
        const asked = now.phases[instance.name];
        const isSuspended = asked === 'exited' && note.phase === 'suspended';
        found.push({
            instance: instance,
            labels: {model: model.name, replica: number},
            phase: isSuspended ? 'suspended' : asked,
            isThere: asked !== 'exited',
            note: note,
        });
    }));
    return found;
}

function ofInstances(found) {
    const phases = [];
    found.forEach(each => PHASES.forEach(phase => phases.push(
        [Object.assign({}, each.labels, {phase: phase}), phase === each.phase ? 1 : 0])));
    const noted = field => found.filter(each => each.isThere)
        .map(each => [each.labels, each.note[field]]);
    return [
        own('instance_phase', 'gauge', 
            'By model, replica and phase: 1 for the phase that it is in, 0 for the others.', phases),
        own('instance_start_time_seconds', 'gauge',
            'By model and replica: when the server was started.', noted('since')),
        own('instance_restarts_total', 'counter',
            'By model and replica: how often it was started again; only where something counts that.',
            found.map(each => [each.labels, each.note.restarts])),
        own('instance_resident_memory_bytes', 'gauge',
            'By model and replica: resident memory with mapped files; not of a GPU, nor of an engine behind a wrapper.',
            found.map(each => [each.labels, memory(each.note)])),
        own('instance_scrape_success', 'gauge',
            'By model and replica: 1 if the server told its own metrics, which are further down then.',
            found.map(each => [each.labels, each.families ? 1 : 0])),
    ];
}

function ofModels(visible, notes) {
    const size = model => model.instances.map(each => (notes[each.name] || {}).size_bytes)
        .filter(isNumber)[0];
    return [
        own('model_info', 'gauge', 'By model, quant and state: 1 for the models of the desired file.', visible.map(model => [
            {model: model.name, quant: model.quant || '', state: model.state}, 1])),
        own('model_file_bytes', 'gauge', 'By model: size of its files.',
            visible.map(model => [{model: model.name}, size(model)])),
    ];
}

// When nginx's configuration came: the link to it is made anew each time.
function configured() {
    try {
        const link = fs.lstatSync(`${models.FOLDER}/current`);
        return Math.round(link.mtimeMs) / 1000;
    } catch (error) {
        return null;
    }
}

function ofGateway() {
    return [
        own('gateway_info', 'gauge', 'By generation: 1 for the configuration that answers.',
            [[{generation: models.GENERATION}, 1]]),
        own('gateway_config_timestamp_seconds', 'gauge',
            'When that configuration came; it changes with every reload.', [[{}, configured()]]),
    ];
}

// What the last run of llm-reconcile left to do.
function ofPlan(r) {
    const all = records.known(r), ofFile = each => ({model: each.model, file: each.file});
    return [
        own('plan_timestamp_seconds', 'gauge',
            'When llm-reconcile looked last.', [[{}, all.at]]),
        own('plan_changes_pending', 'gauge', 'How many changes it left to be done then.',
            [[{}, isNumber(all.at) ? all.pending.length : null]]),
        own('download_bytes', 'gauge', 'By model and file: what is here of a file that is being downloaded.',
            all.downloads.map(each => [ofFile(each), each.bytes])),
        own('download_size_bytes', 'gauge', 'By model and file: what it will have in all.',
            all.downloads.map(each => [ofFile(each), each.of])),
    ];
}

// What was asked of the models that may be seen; a key that is for some sees its own requests alone.
function ofRequests(r, visible) {
    const names = visible.map(model => model.name), whole = access.isUnlimited(r);
    const requests = counts.counted('requests').map(each => ({
        labels: {model: each[0][0], key: each[0][1], status: each[0][2]}, value: each[1],
    })).filter(each => whole
        ? each.labels.model === '-' || names.indexOf(each.labels.model) >= 0
        : each.labels.key === r.variables.key && names.indexOf(each.labels.model) >= 0);
    return [
        own('requests_total', 'counter', 'By model, key and status: requests that have ended.',
            requests.map(each => [each.labels, each.value])),
        own('request_duration_seconds', 'histogram',
            'By model: how long requests took that a server answered, streams to their end.',
            histogram('duration', names)),
        own('request_first_byte_seconds', 'histogram',
            'By model: how long the server took to begin its answer.',
            histogram('first', names)),
    ];
}

function histogram(what, names) {
    const found = Object.create(null), samples = [];
    counts.counted(what).forEach(each => {
        found[each[0][0]] = found[each[0][0]] || {};
        found[each[0][0]][each[0][1]] = each[1];
    });
    names.filter(name => found[name]).forEach(name => {
        let sum = 0;
        counts.BOUNDS.concat('+Inf').forEach((bound, i) => {
            sum += found[name][i] || 0;
            samples.push([{model: name, le: bound}, sum, '_bucket']);
        });
        samples.push([{model: name}, found[name].sum, '_sum'], [{model: name}, sum, '_count']);
    });
    return samples;
}

// The families of all servers, each once.
function merged(found) {
    const all = [], known = Object.create(null);
    found.forEach(each => (each.families || []).forEach(family => {
        if (!known[family.name]) {
            known[family.name] = Object.assign({}, family, {lines: []});
            all.push(known[family.name]);
        }
        family.lines.forEach(line => known[family.name].lines.push(line));
    }));
    return all;
}

function text(family) {
    const help = family.help ? [`# HELP ${family.name} ${family.help}`] : [];
    return help.concat(`# TYPE ${family.name} ${family.type}`, family.lines).join('\n') + '\n';
}

async function page(r) {
    const visible = access.visible(r);
    const found = await instances(r, visible);
    const asked = found.map(each => each.phase === 'ready'
        ? scrape.families(r, each.instance, labels(each.labels)) : null);
    const answers = await Promise.all(asked);
    found.forEach((each, i) => { each.families = answers[i]; });
    const notes = live.notes();
    const families = ofGateway().concat(
        ofPlan(r), ofModels(visible, notes), ofInstances(found),
        ofRequests(r, visible), merged(found));
    r.headersOut['Content-Type'] = 'text/plain; version=0.0.4; charset=utf-8';
    r.headersOut['Cache-Control'] = 'no-store';
    r.return(200, families.filter(each => each.lines.length).map(text).join(''));
}

export default {page};
