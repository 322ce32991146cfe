// Who may use which model. Without a keys file everybody may use all of them.
// In: a request and the model that it is for. Out: that model, or a refusal that is already said.
// Which key a request presents is nginx.conf's business: it looks up the digest that is made here.
import crypto from 'crypto';
import answers from 'answers.js';
import models from 'models.js';

// The sha256 of the key that a request presents, or nothing. The names belong to nginx.conf.
function keyDigest(r) {
    const bearer = /^bearer +(\S+) *$/i.exec(r.headersIn.Authorization || '');
    const key = bearer ? bearer[1] : r.headersIn['X-Api-Key'];
    return key ? crypto.createHash('sha256').update(key).digest('hex') : '';
}

function mayUse(r, model) {
    return isUnlimited(r) || r.variables.key_scope.indexOf(`,${model.name},`) >= 0;
}

function isUnlimited(r) {
    return !r.variables.key_scope;
}

// The models that the key is meant for.
function visible(r) {
    return models.all().filter(model => mayUse(r, model));
}

function usable(r) {
    return visible(r).filter(model => model.instances.length > 0);
}

function unknown(r, name) {
    const known = visible(r).map(model =>
        model.aliases.length ? `${model.name} (${model.aliases.join(', ')})` : model.name);
    const names = known.length ? `known models: ${known.join(', ')}` : 'no models are known here';
    answers.fail(r, 404, `unknown model '${name.slice(0, 200)}'; ${names}`, 'model_not_found');
}

function notServed(r, model) {
    const why = model.state === 'running' ? 'replicas: 0' : `state: ${model.state}`;
    answers.unavailable(r, `model '${model.name}' is not running here (${why} in the desired file)`);
}

// nginx.conf says it, as where it refuses itself.
function forbidden(r, model) {
    r.variables.model = model.name;
    r.return(403);
}

// The model, if this request may know of it; else the refusal is said.
function permit(r, name, model) {
    if (!model) {
        unknown(r, name);
    } else if (!mayUse(r, model)) {
        forbidden(r, model);
    } else {
        return model;
    }
    return null;
}

// The same, and it serves.
function admit(r, name, model) {
    const known = permit(r, name, model);
    if (known && !known.instances.length) {
        notServed(r, known);
        return null;
    }
    return known;
}

export default {keyDigest, mayUse, isUnlimited, visible, usable, permit, admit};
