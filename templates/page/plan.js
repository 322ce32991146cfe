// What is not applied yet, and what is being fetched.
// In: /api/status. Out: two sections, hidden where there is nothing to tell.
import {byId, keep, make, moment, say, since, size} from './dom.js';

const SIGNS = {
  create: '+', start: '+', update: '~', change: '~', replace: '-/+', surge: '+/-',
  delete: '-', stop: '-', remove: '-', adopt: '>', drift: '!', blocked: '!',
};

export function change({name, action, reason}) {
  return make('li', {},
    make('code', {class: 'sign', 'aria-hidden': 'true'}, SIGNS[action] || '·'),
    make('span', {}, make('strong', {}, String(name)), ` ${action}`,
      make('span', {class: 'soft'}, reason ? ` – ${reason}` : '')));
}

function download({model, file}) {
  return make('li', {class: 'download'},
    make('div', {}, make('strong', {}, String(model)), make('span', {class: 'soft'}, ` ${file}`)),
    make('progress', {'aria-label': `${model} ${file}`}), make('span', {class: 'soft'}));
}

export function showPlan(status) {
  const pending = (status && status.pending) || [];
  const downloads = (status && status.downloads) || [];
  byId('pending').hidden = !pending.length;
  byId('downloads').hidden = !downloads.length;
  if (pending.length) {
    say(byId('pending-file'), `What ${status.file} would change, seen ${since(status.at)} ago; ` +
      `llm-reconcile apply ${status.file} does it.`);
    byId('pending-file').title = moment(status.at);
    keep(byId('pending-changes'), pending,
      one => JSON.stringify([one.name, one.action, one.reason]), change);
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
