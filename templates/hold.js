// Waiting for a server that is being replaced or restarted (gateway.hold).
// In: a request that reached none of a model's servers. Out: whether to try again now. What it
// knows between two tries it keeps in $held, of that request alone; the wait has an end.
import fs from 'fs';
import models from 'models.js';

const LOOK_MILLISECONDS = 200, LOOKS_PER_QUESTION = 10;
// nginx allows ten inner redirects; a try takes two of them.
const MOST_TRIES = 3;

function pause() {
    return new Promise(resolve => { setTimeout(resolve, LOOK_MILLISECONDS); });
}

// Which sockets stand behind the routes; one that a new server listens on is another file.
function sockets(model) {
    return model.instances.map(instance => {
        try {
            const found = fs.statSync(`${models.SOCKETS}/${instance.sockets[0]}`);
            return `${found.ino} ${found.mtimeMs}`;
        } catch (error) {
            return '';
        }
    }).join('\n').trim();
}

// True when another socket is there than at the last try; false when the time is over, or `ends`.
async function until(r, model, ends) {
    const now = Date.now();
    const held = JSON.parse(r.variables.held || `{"since": ${now}, "tries": 0, "seen": ""}`);
    for (let looks = 0; held.tries < MOST_TRIES; looks++) {
        const seen = sockets(model);
        if (seen && seen !== held.seen) {
            // Noted before the try: a server that comes during it is a change for the next one.
            r.variables.held = JSON.stringify(
                {since: held.since, tries: held.tries + 1, seen: seen});
            return true;
        }
        if (Date.now() - held.since >= models.HOLD_MILLISECONDS ||
                looks % LOOKS_PER_QUESTION === 0 && ends()) {
            return false;
        }
        await pause();
    }
    return false;
}

export default {until};
