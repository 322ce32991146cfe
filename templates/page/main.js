// The page's loop: asks the gateway what runs, and lets each part show its share.
// In: /api/models, /metrics, /api/status, /api/history. Out: the page. It changes nothing on the machine.
import {hasKey, Locked, look, lookIfThere, setKey} from './api.js';
import {Card} from './cards.js';
import {endChat, showChat, startChat, tryModel} from './chat.js';
import {byId, keep, say} from './dom.js';
import {showHistory} from './history.js';
import {blocked, showPlan} from './plan.js';
import {Samples} from './samples.js';
import {showWatch} from './watch.js';

const EVERY_MS = 2000;
// What is asked besides, at most so often; where it is not there, much less so.
const ABSENT_MS = 60000;
const BESIDES = [
  {path: '/metrics', every: 5000, show: async reply => samples.add(reply ? await reply.text() : '', Date.now() / 1000)},
  {path: '/api/status', every: EVERY_MS, show: async reply => showStatus(reply && await reply.json())},
  {path: '/api/history', every: 10000, show: async reply => showHistory(reply && await reply.json())},
];

let samples = new Samples();
let reasons = new Map();
let turn = 0;
let timer = 0;
let isAsking = false;

function cardsOf(models) {
  const gone = new Set(byId('models').children);
  const rows = keep(byId('models'), models, model => model.name, model => new Card(model, tryModel).element);
  rows.forEach(row => gone.delete(row));
  gone.forEach(row => row.card.end());
  return rows.map(row => row.card);
}

// The gateway sees that no server answers; only the last plan knows that none could be started.
function withReason(model) {
  const isBlocked = model.phase === 'exited' && reasons.has(model.name);
  return isBlocked ? {...model, phase: 'blocked', reason: reasons.get(model.name)} : model;
}

function show(state) {
  const {generation} = state;
  const models = state.models.map(withReason);
  byId('lost').hidden = byId('locked').hidden = true;
  byId('plain')?.remove();
  document.body.classList.remove('stale');
  const phases = models.map(model => model.phase).filter(phase => phase !== 'absent');
  const [wanted, ready] = [phases.length, phases.filter(phase => phase === 'ready').length];
  const others = [...new Set(phases)].filter(phase => phase !== 'ready').sort()
    .map(phase => `, ${phases.filter(other => other === phase).length} ${phase}`);
  const running = models.reduce((sum, {name}) => sum + (samples.standing(name).busy || 0), 0);
  say(byId('summary'), models.length ? `${ready} of ${wanted} ready${others.join('')}` : '');
  // By itself: what is said aloud at each change may not change with every look.
  say(byId('running'), running ? `${running} ${running === 1 ? 'request' : 'requests'} running` : '');
  document.title = models.length ? `${ready}/${wanted} Models` : 'Models';
  byId('empty').hidden = models.length > 0;
  byId('about').hidden = false;
  say(byId('base'), `${location.origin}/v1`);
  say(byId('generation'), generation);
  cardsOf(models).forEach((card, place) => card.show(models[place], samples));
  showChat(models);
}

function showStatus(status) {
  reasons = blocked(status);
  showPlan(status);
  showWatch(status);
}

function locked() {
  byId('lost').hidden = byId('empty').hidden = byId('about').hidden = true;
  byId('locked').hidden = false;
  byId('refused').hidden = !hasKey();
  say(byId('summary'), '');
  say(byId('running'), '');
  document.title = 'Models';
  cardsOf([]);
  endChat();
  showStatus(null);
  showHistory(null);
  samples = new Samples();
  setKey('');
  byId('key').focus();
}

function lost(error) {
  say(byId('why'), error.name === 'TimeoutError' ? 'It is too slow.' : '');
  byId('lost').hidden = false;
  say(byId('summary'), 'unreachable');
  say(byId('running'), '');
  document.body.classList.add('stale');
}

// What fails here fails there too, and is told there; what is not there is not shown.
async function askBesides(mine) {
  const now = Date.now();
  const due = document.hidden ? [] : BESIDES.filter(one => now >= (one.next || 0));
  await Promise.all(due.map(async one => {
    one.next = now + one.every;
    try {
      const reply = await lookIfThere(one.path);
      if (!reply) one.next = now + ABSENT_MS;
      if (mine === turn) await one.show(reply);
    } catch (error) {
      one.next = now + one.every;
    }
  }));
}

async function askAll(mine) {
  const reply = await look('/api/models');
  const state = await reply.json();
  const known = reasons;
  if (mine === turn) show(state);
  await askBesides(mine);
  if (mine === turn && known !== reasons) show(state);
}

// Again and again, until there is no use in it: without a key, or once a newer turn goes on.
async function refresh(mine) {
  clearTimeout(timer);
  if (document.hidden || isAsking) return;
  isAsking = true;
  let isLocked = false;
  try {
    await askAll(mine);
  } catch (error) {
    isLocked = error instanceof Locked;
    if (mine === turn && !isLocked) lost(error);
  }
  isAsking = false;
  if (mine !== turn) refresh(turn);
  else if (isLocked) locked();
  else timer = setTimeout(() => refresh(mine), EVERY_MS);
}

byId('unlock').addEventListener('submit', event => {
  event.preventDefault();
  setKey(byId('key').value.trim());
  byId('key').value = '';
  turn += 1;
  BESIDES.forEach(one => { one.next = 0; });
  refresh(turn);
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && byId('locked').hidden) refresh(turn);
});
startChat();
say(byId('summary'), 'Asking the gateway…');
refresh(turn);
