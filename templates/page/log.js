// The last lines of one model's server, and each new one while it is looked at.
// In: /api/logs/NAME. Out: text in a box. It asks only for what is new, and only while it is open.
import {look, Refused} from './api.js';
import {make, say} from './dom.js';

const EVERY_MS = 2000;
const MOST_CHARACTERS = 200000;
const COLOURS = /\x1b\[[0-9;]*[A-Za-z]/g;

export class Log {
  constructor(model) {
    this.model = model;
    this.replica = 0;
    this.end = null;
    this.timer = -1;
    this.choice = make('div', {class: 'row', hidden: ''});
    this.text = make('pre', {class: 'log', tabindex: 0, role: 'region',
      'aria-label': `Log of ${model}`});
    this.note = make('p', {class: 'soft', role: 'status'}, 'Asking for the log…');
    this.element = make('div', {}, this.choice, this.text, this.note);
    this.text.hidden = true;
  }

  // A model of several servers has as many logs.
  showReplicas(count) {
    if (this.choice.childElementCount === count) return;
    this.choice.hidden = count < 2;
    this.choice.replaceChildren(...Array.from({length: count}, (_, number) => {
      const button = make('button', {type: 'button', 'aria-pressed': String(number === this.replica)},
        `Replica ${number}`);
      button.addEventListener('click', () => this.choose(number));
      return button;
    }));
  }

  choose(number) {
    [...this.choice.children].forEach((button, own) => button.setAttribute('aria-pressed', String(own === number)));
    this.replica = number;
    this.end = null;
    this.text.textContent = '';
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), 0);
  }

  close() {
    clearTimeout(this.timer);
    this.timer = -1;
  }

  async refresh() {
    const mine = this.timer;
    try {
      if (!document.hidden) await this.read();
    } catch (error) {
      say(this.note, error instanceof Refused ? error.message : 'The log cannot be read just now.');
    }
    if (this.timer === mine) this.timer = setTimeout(() => this.refresh(), EVERY_MS);
  }

  async read() {
    const {replica} = this;
    const query = this.end === null ? 'lines=200' : `after=${this.end}`;
    const reply = await look(`/api/logs/${this.model}?replica=${replica}&${query}`);
    if (replica !== this.replica) return;
    const start = Number(reply.headers.get('X-Log-Start'));
    const said = (await reply.text()).replace(COLOURS, '');
    // Anything but the next byte: a new file, or more was written than is sent at once.
    if (start !== this.end) this.text.textContent = '';
    this.end = Number(reply.headers.get('X-Log-End'));
    if (said) this.add(said);
    this.text.hidden = !this.text.textContent;
    say(this.note, this.text.hidden ? 'Nothing was written to it yet.' : '');
  }

  add(said) {
    const box = this.text;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(said);
    if (box.textContent.length > MOST_CHARACTERS) {
      box.textContent = box.textContent.slice(-MOST_CHARACTERS / 2).replace(/^[^\n]*\n/, '');
    }
    box.hidden = false;
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}
