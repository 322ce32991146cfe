// Streams that went on without their client: llama-server keeps one for each conversation id.
// In: /v1/stream?conv_id= (GET takes it up again, DELETE stops it), /v1/streams/lookup, and
// /v1/chat/completions/control for one that runs. Out: a redirect to the server that holds it, a
// replica or a copy that is about to stop too; or what all servers say. Who holds what is asked, so
// a restart or a reload forgets nothing.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import bodies from 'bodies.js';
import models from 'models.js';

// The models that are meant: that of the path or the port, the one named, or all the key may use.
function meant(r, body) {
    const named = /^\/api\/([^/]+)\//.exec(r.uri);
    const name = named ? named[1] : r.variables.model;
    if (name !== '-') {
        const model = access.admit(r, name, models.all().find(each => each.name === name));
        return model ? [model] : null;
    }
    const asked = typeof body.model === 'string' ? body.model : r.args.model;
    if (typeof asked === 'string') {
        const model = access.admit(r, asked, models.find(asked));
        return model ? [model] : null;
    }
    return access.usable(r);
}

async function ask(r, what, model, socket, body) {
    const found = {model: model.name, socket: socket, said: null};
    if (fs.existsSync(`${models.SOCKETS}/${socket}`)) {
        const reply = await r.subrequest(`/-/${what}/${socket}`, {method: 'POST', body: body});
        found.said = reply.status === 200 ? parsed(reply.responseText) : null;
    }
    return found;
}

// What the copies of these models say; the stable name is a link to one of them.
async function askAll(r, what, which, body) {
    const asked = [], text = JSON.stringify(body);
    which.forEach(model => model.instances.forEach(instance =>
        instance.sockets.slice(1).forEach(socket => asked.push(ask(r, what, model, socket, text)))));
    return (await Promise.all(asked)).filter(found => found.said !== null);
}

async function lookUp(r, which, ids) {
    const streams = [];
    const lists = await askAll(r, 'lookup', which, {conversation_ids: ids});
    lists.filter(found => Array.isArray(found.said)).forEach(found => found.said.forEach(stream =>
        streams.push({model: found.model, socket: found.socket, stream: stream})));
    return streams;
}

function parsed(text) {
    try {
        return JSON.parse(text);
    } catch (error) {
        return null;
    }
}

async function list(r) {
    const body = parsed(r.requestText || '') || {}, ids = body.conversation_ids;
    if (!Array.isArray(ids) || !ids.every(id => typeof id === 'string')) {
        answers.fail(r, 400, '`conversation_ids` must be a list of texts', 'bad_ids');
        return;
    }
    const which = meant(r, body);
    if (which) {
        answers.json(r, 200, (await lookUp(r, which, ids)).map(found => found.stream));
    }
}

// One that runs before one that is done, then the latest.
function isBetter(one, other) {
    return one.is_done === other.is_done ? one.started_at > other.started_at : !one.is_done;
}

async function resume(r) {
    const id = r.args.conv_id;
    if (typeof id !== 'string' || id === '') {
        answers.fail(r, 400, 'name one conversation: ?conv_id=', 'bad_id');
        return;
    }
    const which = meant(r, {});
    if (!which) {
        return;
    }
    const found = (await lookUp(r, which, [id])).filter(each => each.stream.conversation_id === id);
    if (found.length) {
        const best = found.reduce((a, b) => isBetter(b.stream, a.stream) ? b : a);
        r.variables.model = best.model;
        r.variables.stream_socket = best.socket;
        r.internalRedirect('@stream');
    } else if (r.method === 'DELETE') {
        r.return(204);
    } else {
        answers.fail(r, 404, 'no server holds a stream of this conversation: it was never begun ' +
                     'with X-Conversation-Id, is over for some minutes, or its server is gone',
                     'stream_not_found');
    }
}

// To whoever makes the answer of that id; each other one says that it knows none.
async function control(r) {
    const body = parsed(r.requestText || '');
    if (!bodies.isObject(body) || typeof body.id !== 'string') {
        answers.fail(r, 400, '`id` must be that of an answer that is being made', 'bad_id');
        return;
    }
    const which = meant(r, body);
    if (which) {
        const said = (await askAll(r, 'control', which, body)).map(found => found.said);
        answers.json(r, 200, said.filter(one => one.success)[0] || said[0] ||
                     {success: false, message: 'no server answers'});
    }
}

export default {control, list, resume};
