// Whether a watch keeps all this so, and what stands in its way.
// In: /api/status. Out: a sentence, and two notices, hidden where there is nothing to tell.
import {byId, moment, say, since} from './dom.js';

function notice(name, text) {
  byId(name).hidden = !text;
  say(byId(`${name}-text`), text || '');
}

export function showWatch(status) {
  const watch = status && status.watch;
  notice('trouble', watch && watch.trouble);
  notice('held', watch && watch.held);
  say(byId('watch'), watch ? `A watch keeps it so, for ${since(watch.since)} (pid ${watch.pid}).` : '');
  byId('watch').title = watch ? `since ${moment(watch.since)}` : '';
}
