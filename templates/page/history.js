// What was applied: when, by whom, from which commit, with what end.
// In: /api/history. Out: a list, the newest first; hidden where nothing is known.
import {ago, byId, keep, make, moment} from './dom.js';
import {change} from './plan.js';

const MOST = 30;
const TONES = {applied: 'good', running: 'soft'};

function commit({commit: full, dirty}) {
  if (!full) return null;
  const text = String(full).slice(0, 10) + (dirty ? ' + edits' : '');
  return make('code', {title: dirty ? `${full}, and changes that were not committed` : full}, text);
}

function create(record) {
  const head = make('div', {class: 'record'},
    make('time', {datetime: new Date(record.at * 1000).toISOString(), title: moment(record.at)}),
    make('strong', {}, String(record.verb)),
    make('span', {}, `by ${record.who || 'unknown'}`), commit(record),
    make('span', {class: TONES[record.outcome] || 'bad'}, String(record.outcome)));
  const changes = record.changes || [];
  const rest = record.more ? make('li', {class: 'soft'}, `and ${record.more} more`) : null;
  const list = changes.length ? make('ul', {class: 'changes'}, ...changes.map(change), rest) : null;
  const more = list && (changes.length > 3
    ? make('details', {}, make('summary', {}, `${changes.length + (record.more || 0)} changes`), list) : list);
  return make('li', {}, head, record.message ? make('p', {class: 'soft'}, String(record.message)) : null, more);
}

export function showHistory(history) {
  const records = ((history && history.records) || []).slice()
    .sort((one, other) => other.number - one.number).slice(0, MOST);
  byId('history').hidden = !records.length;
  const rows = keep(byId('history-records'), records, one => `${one.number} ${one.outcome}`, create);
  rows.forEach((row, place) => {
    row.querySelector('time').textContent = ago(records[place].at);
  });
}
