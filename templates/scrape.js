// What each server counts itself: its own /metrics.
// In: instances whose servers are ready. Out: their metric families with `model` and `replica`
// added to each series, at most some seconds old. A server is asked seldom: llama.cpp notices a
// client that left only after a second without any task, and this question is one.
import models from 'models.js';

const FRESH_MILLISECONDS = 5000;

// One Prometheus text as families: {name, help, type, lines}; null if it is none.
function parse(text, own) {
    const sample = new RegExp('^(?!llm_reconcile_)([a-zA-Z_:][a-zA-Z0-9_:]*)' +
        '(?:\\{((?:[ ]*[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\]|\\\\.)*"[ ]*,?)*)\\})?' +
        '[ \\t]+([+-]?(?:(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?|Inf)|NaN)((?:[ \\t]+-?[0-9]+)?)[ \\t]*$');
    const about = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/;
    const families = [], known = Object.create(null), seen = Object.create(null);
    let current = null;

    function family(name) {
        if (!known[name]) {
            known[name] = {name: name, help: '', type: 'untyped', lines: []};
            families.push(known[name]);
        }
        return known[name];
    }

    const lines = text.split('\n');
    for (let i = 0; i < lines.length; i++) {
        const line = lines[i].replace(/\r$/, '');
        const said = about.exec(line);
        if (said) {
            current = family(said[2]);
            current[said[1].toLowerCase()] = said[3];
        } else if (line && line[0] !== '#') {
            const found = sample.exec(line);
            if (!found) {
                return null;
            }
            const labels = labelled(found[2] || '', own), series = found[1] + labels;
            if (!seen[series]) {
                seen[series] = true;
                const owner = current && isPart(found[1], current) ? current : family(found[1]);
                owner.lines.push(`${series} ${found[3]}${found[4]}`);
            }
        }
    }
    const full = families.filter(each => each.lines.length);
    return full.length ? full : null;
}

function isPart(name, family) {
    const parts = {histogram: ['_bucket', '_sum', '_count'], summary: ['_sum', '_count']};
    return name === family.name ||
        (parts[family.type] || []).some(part => name === family.name + part);
}

// The server's own labels stay as they are; one that has our name is renamed as Prometheus does it.
function labelled(given, own) {
    const all = [own], label = /([a-zA-Z0-9_]+)=("(?:[^"\\]|\\.)*")/g;
    for (let found = label.exec(given); found; found = label.exec(given)) {
        const isOurs = found[1] === 'model' || found[1] === 'replica';
        all.push(`${isOurs ? 'exported_' : ''}${found[1]}=${found[2]}`);
    }
    return `{${all.join(',')}}`;
}

async function ask(r, socket, own) {
    const reply = await r.subrequest(`/-/metrics/${socket}`, {method: 'GET'});
    return reply.status === 200 ? parse(reply.responseText, own) : null;
}

// The families of one instance, null if it gives none. While one request asks, others take what
// was known before.
async function families(r, instance, own) {
    const cache = ngx.shared.live, key = `${models.GENERATION} ${instance.name}`;
    const kept = JSON.parse(cache.get(key) || 'null');
    const now = Date.now();
    if (kept && now >= kept.at && now - kept.at < FRESH_MILLISECONDS) {
        return kept.families;
    }
    keep(r, cache, key, {at: now, families: kept ? kept.families : null});
    const found = await ask(r, instance.sockets[0], own);
    keep(r, cache, key, {at: now, families: found});
    return found;
}

function keep(r, cache, key, value) {
    try {
        cache.set(key, JSON.stringify(value));
    } catch (error) {
        r.warn(`the counts of a server are not kept: ${error}`);
    }
}

export default {families};
