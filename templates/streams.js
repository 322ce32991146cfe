// Streams that went on without their client: llama-server keeps one for each conversation id.
// In: /v1/stream?conv_id= (GET takes it up again, DELETE stops it), /v1/streams/lookup. Out: a
// redirect to the server that holds it, a replica or a copy that is about to stop too; or what all
// servers know of the ids. Who holds what is asked, so a restart or a reload forgets nothing.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import models from 'models.js';

// The models that are meant: that of the path or the port, ?model=, or all that the key may use.
function meant(r) {
    const named = /^\/api\/([^/]+)\//.exec(r.uri);
    const name = named ? named[1] : r.variables.model;
    if (name !== '-') {
        const model = access.admit(r, name, models.all().find(each => each.name === name));
        return model ? [model] : null;
    }
    if (typeof r.args.model === 'string') {
        const model = access.admit(r, r.args.model, models.find(r.args.model));
        return model ? [model] : null;
    }
    return access.usable(r);
}

async function ask(r, model, socket, ids) {
    if (!fs.existsSync(`${models.SOCKETS}/${socket}`)) {
        return [];
    }
    const body = JSON.stringify({conversation_ids: ids});
    const reply = await r.subrequest(`/-/lookup/${socket}`, {method: 'POST', body: body});
    try {
        const listed = reply.status === 200 ? JSON.parse(reply.responseText) : [];
        return listed.map(stream => ({model: model.name, socket: socket, stream: stream}));
    } catch (error) {
        return [];
    }
}

// What the copies of these models know of the ids; the stable name is a link to one of them.
async function lookUp(r, which, ids) {
    const asked = [];
    which.forEach(model => model.instances.forEach(instance =>
        instance.sockets.slice(1).forEach(socket => asked.push(ask(r, model, socket, ids)))));
    return (await Promise.all(asked)).reduce((all, some) => all.concat(some), []);
}

async function list(r) {
    let ids = null;
    try {
        ids = JSON.parse(r.requestText).conversation_ids;
    } catch (error) {
        // It is no JSON: said below.
    }
    if (!Array.isArray(ids) || !ids.every(id => typeof id === 'string')) {
        answers.fail(r, 400, '`conversation_ids` must be a list of texts', 'bad_ids');
        return;
    }
    const which = meant(r);
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
    const which = meant(r);
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

export default {list, resume};
