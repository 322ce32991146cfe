// One card a model: its phase and why, what it is, what it does, how to call it, its log.
// In: an entry of /api/models, samples of it. Out: an element that is changed in place.
import {lookIfThere} from './api.js';
import {commands} from './commands.js';
import {make, moment, say, sayWhereThere, since, size} from './dom.js';
import {Log} from './log.js';
import {Plot} from './plots.js';

// What a phase means, where nobody noted more.
const MEANING = {
  starting: 'The server loads its model.',
  stopping: 'The server finishes what it is at.',
  unhealthy: 'The server does not answer as it should.',
  exited: 'No server answers. Its log may say why.',
  absent: 'The desired file does not want it to run.',
};
const watched = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting}) => {
  target.card.isSeen = isIntersecting;
  target.card.askProps();
}));
let cards = 0;

class Facts {
  constructor() {
    this.element = make('dl');
    this.values = new Map();
  }

  show(name, text, title) {
    if (!this.values.has(name)) {
      const value = make('dd');
      this.values.set(name, value);
      this.element.append(make('div', {hidden: ''}, make('dt', {}, name), value));
    }
    const value = this.values.get(name);
    sayWhereThere(value, text);
    value.parentNode.hidden = !text;
    if (title && value.title !== title) value.title = title;
  }
}

// Buttons of which at most one is pressed, and the part that belongs to it.
class Parts {
  constructor(card, row) {
    this.card = card;
    this.row = row;
    this.opened = '';
    this.parts = new Map();
  }

  add(name, content, {open = () => {}, close = () => {}} = {}) {
    const id = `${this.card.id}-${this.parts.size}`;
    const button = make('button', {type: 'button', 'aria-expanded': 'false', 'aria-controls': id}, name);
    const part = make('div', {id, class: 'part', hidden: ''}, content);
    button.addEventListener('click', () => this.toggle(this.opened === name ? '' : name));
    this.parts.set(name, {button, part, open, close});
    this.row.append(button);
    this.card.append(part);
    return button;
  }

  toggle(name) {
    for (const [own, {button, part, open, close}] of this.parts) {
      const shall = own === name;
      if (shall === !part.hidden) continue;
      part.hidden = !shall;
      button.setAttribute('aria-expanded', String(shall));
      (shall ? open : close)();
    }
    this.opened = name;
    this.card.classList.toggle('opened', name !== '');
  }
}

export class Card {
  constructor(model, tryIt) {
    this.model = model;
    this.props = {};
    this.isSeen = false;
    cards += 1;
    const title = `model-${cards}`;
    this.phase = make('span', {class: 'phase'});
    this.aliases = make('p', {class: 'aliases'});
    this.reason = make('p', {class: 'reason'});
    this.facts = new Facts();
    this.tokens = new Plot('tokens/s');
    this.requests = new Plot('requests');
    this.row = make('div', {class: 'row'});
    this.ask = make('button', {type: 'button'}, 'Try it');
    this.ask.addEventListener('click', () => tryIt(model.name));
    this.row.append(this.ask);
    this.element = make('li', {class: 'card box', id: `card-${cards}`, 'aria-labelledby': title},
      make('div', {class: 'top'}, make('h2', {id: title}, model.name), this.phase),
      this.aliases, this.reason, this.facts.element,
      make('div', {class: 'plots'}, this.tokens.element, this.requests.element), this.row);
    const parts = new Parts(this.element, this.row);
    this.calls = make('div', {class: 'commands'});
    this.log = new Log(model.name);
    this.call = parts.add('Call it', this.calls, {open: () => this.showCommands()});
    parts.add('Log', this.log.element, {open: () => this.log.open(), close: () => this.log.close()});
    this.element.card = this;
    watched.observe(this.element);
  }

  // Nobody will see it again.
  end() {
    watched.unobserve(this.element);
    this.log.close();
  }

  showCommands() {
    this.calls.replaceChildren(...commands(this.model, this.props.context));
  }

  // What only the server itself knows, once for each of its starts, and only if somebody looks.
  async askProps() {
    const {name, phase, since: start} = this.model;
    if (phase !== 'ready' || this.props.start === start || !this.isSeen) return;
    this.props = {start};
    try {
      const reply = await lookIfThere(`/api/${name}/props`);
      const {total_slots: slots, default_generation_settings: usual} = reply ? await reply.json() : {};
      if (typeof slots === 'number') this.props.slots = slots;
      if (typeof usual?.n_ctx === 'number') this.props.context = usual.n_ctx;
    } catch {
      // It is not asked again: then it has no such thing to tell.
    }
    if (!this.calls.parentNode.hidden) this.showCommands();
  }

  show(model, samples) {
    this.model = model;
    const {name, phase} = model;
    say(this.phase, phase);
    this.phase.className = `phase ${/^[a-z]+$/.test(phase) ? phase : ''}`;
    sayWhereThere(this.aliases, model.aliases.length ? `also ${model.aliases.join(', ')}` : '');
    const isWanted = phase !== 'absent';
    sayWhereThere(this.reason, model.reason || MEANING[phase]);
    this.reason.classList.toggle('calm', !['exited', 'unhealthy', 'blocked'].includes(phase));
    this.ask.disabled = phase !== 'ready';
    this.ask.hidden = this.call.hidden = !isWanted;
    this.showFacts(model, samples.standing(name));
    this.askProps();
    this.log.showReplicas(model.replicas);
    this.tokens.show(samples.series(name, 'tokens'));
    if (samples.areCounted) this.requests.show(samples.series(name, 'requests'), 'requests/min');
    else this.requests.show(samples.series(name, 'running'), 'requests at once');
  }

  showFacts(model, now) {
    const facts = this.facts;
    facts.show('quant', model.quant);
    facts.show('size', size(model.size_bytes));
    facts.show('memory', size(now.memory));
    facts.show('context', this.props.context ? `${this.props.context.toLocaleString('en')} tokens` : '');
    facts.show('port', model.port ? String(model.port) : '');
    facts.show('up', since(model.since), model.since ? `since ${moment(model.since)}` : '');
    facts.show('restarts', model.restarts ? String(model.restarts) : '');
    facts.show('ready', model.replicas > 1 ? `${model.ready} of ${model.replicas} replicas` : '');
    facts.show('slots', this.slots(model, now));
    facts.show('address', model.phase === 'absent' ? '' : model.url);
  }

  slots(model, now) {
    if (now.busy === undefined) return '';
    const {slots} = this.props;
    const busy = slots ? `${now.busy} of ${slots * (model.ready || 1)} busy` : `${now.busy} busy`;
    return now.waiting ? `${busy}, ${now.waiting} waiting` : busy;
  }
}
