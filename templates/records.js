// What runs leave to be read: /api/status.
// In: the files that llm-reconcile writes into its state folder. Out: JSON, of which a key that is
// meant for some models sees what is about these. A file that is not there says nothing.
import fs from 'fs';
import access from 'access.js';
import answers from 'answers.js';
import bodies from 'bodies.js';
import models from 'models.js';

function parsed(text) {
    try {
        const value = JSON.parse(text);
        return bodies.isObject(value) ? value : {};
    } catch (error) {
        return {};
    }
}

function read(path) {
    try {
        return fs.readFileSync(path, 'utf8');
    } catch (error) {
        return '';
    }
}

function array(value) {
    return Array.isArray(value) ? value : [];
}

// All of /api/status, for whoever may see all.
function whole() {
    const noted = parsed(read(`${models.FOLDER}/status.json`));
    return {at: noted.at || null, file: noted.file || null, pending: array(noted.pending),
            downloads: []};
}

// Changes of the whole root, such as the gateway's, are for keys without a limit.
function mayRead(r, change) {
    const isOnes = change.type === 'instance' || change.type === 'model_file';
    return isOnes ? access.mayUse(r, {name: change.name.replace(/\[\d+\]$/, '')})
                  : access.isUnlimited(r);
}

function say(r, body) {
    r.headersOut['Cache-Control'] = 'no-store';
    answers.json(r, 200, body);
}

function status(r) {
    const all = whole();
    all.pending = all.pending.filter(change => mayRead(r, change));
    say(r, all);
}

export default {whole, status};
