// The gateway's router, run by nginx (njs).
// In: a request whose path names no model. Out: an internal redirect to the model that its body
// (or ?model=) names, or an error in OpenAI's shape. It keeps no state.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import bodies from 'bodies.js';
import coming from 'coming.js';
import conversations from 'conversations.js';
import hold from 'hold.js';
import live from 'live.js';
import models from 'models.js';

function route(r) {
    const type = r.headersIn['Content-Type'] || '', body = r.requestBuffer;
    let name = null;
    if (body && body.length) {
        const isForm = /^multipart\/form-data *;/i.test(type);
        name = isForm ? bodies.modelOfForm(body, type) : bodies.modelOf(body);
    }
    if (name === null || name === '') {
        name = r.args.model === undefined ? null : r.args.model;
    }
    if (name !== null && typeof name !== 'string') {
        answers.fail(r, 400, '`model` must be one text', 'bad_model');
        return;
    }
    const served = name === null ? access.usable(r) : [];
    if (name === null && served.length !== 1) {
        const names = served.map(model => model.name).join(', ');
        answers.fail(r, 400, 'name a model: `model` in the JSON body, or ?model= ' +
             (names ? `(running: ${names})` : '(none is running)'), 'model_required');
        return;
    }
    const model = access.admit(r, name, name === null ? served[0] : models.find(name));
    if (model) {
        pass(r, model, body);
    }
}

// To the one server, or of several to the one that knows the conversation.
function pass(r, model, body) {
    const conversation = model.instances.length > 1 ? conversations.of(r, body) : '';
    if (conversation) {
        r.variables.conversation = conversation;
    }
    r.internalRedirect((conversation ? '@talk_' : '@model_') + model.name);
}

function unknownApi(r) {
    const name = r.uri.split('/')[2];
    access.admit(r, name, models.all().find(model => model.name === name));
}

// The note of an operator who stopped the model, or nothing.
function suspension(name) {
    const model = models.find(name);
    const known = live.notes();
    const noted = model ? model.instances.map(each => known[each.name]).filter(bodies.isObject) : [];
    return noted.length && noted[0].phase === 'suspended' ? noted[0] : null;
}

// Whether all of a model's servers have exited: who stops or replaces one takes its route away first,
// and who starts another one has a second socket.
function isDown(model) {
    return model.instances.every(instance => {
        const route = `${models.SOCKETS}/${instance.sockets[0]}`;
        try {
            const target = fs.readlinkSync(route);
            return !instance.sockets.slice(1).some(
                copy => copy !== target && fs.existsSync(`${models.SOCKETS}/${copy}`));
        } catch (error) {
            return false;
        }
    });
}

// nginx got no answer from the model's server.
async function failed(r) {
    const name = r.variables.model;
    const connected = (r.variables.upstream_connect_time || '-').split(/[,: ]+/).pop() !== '-';
    if (!connected && r.variables.conversation) {
        // All replicas have as many conversations as they have slots (or are not there).
        r.variables.conversation = '';
        r.internalRedirect('@model_' + name);
        return;
    }
    // Who only looks (GET) wants to know now.
    const mayWait = !connected && models.HOLD_MILLISECONDS > 0 && r.method === 'POST';
    const model = models.find(name);
    if (mayWait && await hold.until(r, model, () => suspension(name))) {
        r.internalRedirect('@again_' + name);
        return;
    }
    const noted = connected ? null : suspension(name);
    if (noted) {
        if (noted.until) {
            const seconds = Math.ceil(noted.until - Date.now() / 1000);
            r.headersOut['Retry-After'] = String(Math.max(1, seconds));
        }
        answers.unavailable(r, `model '${name}' is ${noted.reason}`);
    } else if (!connected && isDown(model)) {
        answers.fail(r, 502, `the server of model '${name}' has exited; \`llm-reconcile status\` ` +
                     'says why', 'bad_gateway');
    } else if (!connected) {
        r.headersOut['Retry-After'] = coming.seconds(model, live.notes());
        answers.unavailable(r, `the server of model '${name}' does not answer: it is starting ` +
                    'or restarting, or was never started; `llm-reconcile status` says which');
    } else {
        answers.fail(r, 502, `the server of model '${name}' broke off before it answered`, 'bad_gateway');
    }
}

export default {route, unknownApi, failed};
