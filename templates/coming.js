// When a server that is starting, or is replaced, will be there: for Retry-After.
// In: a model, the notes of the last run (how long a start of each instance took), the sockets.
// Out: whole seconds, as text. What a server listens on is made when it begins to load.
import fs from 'fs';
import models from 'models.js';

const UNKNOWN_SECONDS = 2, STOP_SECONDS = 1, LONGEST_SECONDS = 600;

// When the newest copy began that is not behind the route, in milliseconds; 0: none has.
function began(instance) {
    return instance.sockets.slice(1).reduce((newest, socket) => {
        try {
            return Math.max(newest, fs.statSync(`${models.SOCKETS}/${socket}`).mtimeMs);
        } catch (error) {
            return newest;
        }
    }, 0);
}

function secondsOf(instance, note) {
    if (!note || typeof note.start_s !== 'number') {
        return UNKNOWN_SECONDS;
    }
    const since = began(instance);
    const passed = since ? (Date.now() - since) / 1000 : -STOP_SECONDS;
    const left = Math.ceil(note.start_s - passed);
    // It takes longer than the last time: nobody knows how much.
    return left < 1 ? UNKNOWN_SECONDS : Math.min(left, LONGEST_SECONDS);
}

// The first of its replicas will do.
function seconds(model, notes) {
    const all = model.instances.map(each => secondsOf(each, notes[each.name]));
    return String(all.length ? Math.min.apply(null, all) : UNKNOWN_SECONDS);
}

export default {seconds};
