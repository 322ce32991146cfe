// What is not applied yet, and what is being fetched.
// In: /api/status. Out: two sections, hidden where there is nothing to tell.
import {ago, byId, keep, make, moment, say, size} from './dom.js';

// As plans write them.
const SIGNS = {
  create: '+', update: '~', replace: '-/+', surge: '+/-', delete: '-', adopt: '>', blocked: '!',
};

export function change({type, name, action, reason}) {
  const what = type === 'model_file' ? `files of ${name}` : String(name);
  return make('li', {},
    make('code', {class: 'sign', 'aria-hidden': 'true'}, SIGNS[action] || '~'),
    make('span', {}, make('strong', {}, what), ` ${action}`,
      make('span', {class: 'soft'}, reason ? ` – ${reason}` : '')));
}

function download({model, file}) {
  return make('li', {class: 'download'},
    make('div', {}, make('strong', {}, String(model)), make('span', {class: 'soft'}, ` ${file}`)),
    make('progress', {'aria-label': `${model} ${file}`}), make('span', {class: 'soft'}));
}

// Why models cannot be started, by their names: of those nobody has a log to look into.
export function blocked(status) {
  const pending = (status && status.pending) || [];
  return new Map(pending.filter(({type, action}) => type === 'instance' && action === 'blocked')
    .map(({name, reason}) => [name, reason]));
}

export function showPlan(status) {
  const pending = (status && status.pending) || [];
  const downloads = (status && status.downloads) || [];
  byId('pending').hidden = !pending.length;
  byId('downloads').hidden = !downloads.length;
  if (pending.length) {
    say(byId('pending-at'), `as of ${ago(status.at)}`);
    byId('pending-at').title = moment(status.at);
    say(byId('pending-command'), `llm-reconcile apply ${status.file}`);
    keep(byId('pending-changes'), pending,
      one => JSON.stringify([one.type, one.name, one.action, one.reason]), change);
  }
  const rows = keep(byId('downloads-files'), downloads,
    one => JSON.stringify([one.model, one.file]), download);
  rows.forEach((row, place) => {
    const {bytes, of} = downloads[place];
    const [, bar, text] = row.children;
    if (of) {
      bar.max = of;
      bar.value = Math.min(bytes, of);
    } else {
      bar.removeAttribute('value');
    }
    say(text, of ? `${size(bytes)} of ${size(of)}, ${Math.floor(100 * Math.min(1, bytes / of))} %` : size(bytes));
  });
}
