// A small chat, to try a model: streamed, stopped at will, with the errors in the gateway's own words.
// In: what is typed. Out: POST /v1/chat/completions, its answer as text. It is gone with the page.
import {ask, Locked, Refused} from './api.js';
import {byId, duration, make, number, say} from './dom.js';

const MOST_TOKENS = 2048;
const talk = [];
let running = null;

function bubble(role) {
  const box = make('div', {class: `said ${role}`});
  const thought = make('p', {class: 'thought', hidden: ''});
  const text = make('p');
  box.append(make('span', {class: 'who'}, role === 'user' ? 'You' : byId('chat-model').value), thought, text);
  byId('talk').append(box);
  byId('talk').hidden = byId('clear').hidden = false;
  return {box, thought, text};
}

function follow(write) {
  const area = byId('talk');
  const atEnd = area.scrollHeight - area.scrollTop - area.clientHeight < 40;
  write();
  if (atEnd) area.scrollTop = area.scrollHeight;
}

// The values of a stream of server-sent events, one by one, until [DONE].
async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let left = ''; ;) {
    const {done, value} = await reader.read();
    if (done) throw new Error('cut');
    const lines = (left + value).split('\n');
    left = lines.pop();
    for (const line of lines.filter(one => one.startsWith('data:'))) {
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      yield JSON.parse(data);
    }
  }
}

async function answer(model, messages, parts, signal) {
  const began = performance.now();
  let first = 0, timings = null, end = '', said = '';
  const reply = await ask('/v1/chat/completions', {
    method: 'POST',
    signal,
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({model, messages, stream: true, max_tokens: MOST_TOKENS}),
  });
  for await (const event of events(reply)) {
    if (event.error) throw new Refused(200, String(event.error.message), null);
    const choice = (event.choices || [])[0] || {};
    const {content, reasoning_content: thought} = choice.delta || {};
    first = first || (content || thought ? performance.now() - began : 0);
    timings = event.timings || timings;
    end = choice.finish_reason || end;
    follow(() => {
      if (thought) {
        parts.thought.hidden = false;
        parts.thought.append(thought);
      }
      if (content) parts.text.append(content);
    });
    said += content || '';
    talk[talk.length - 1].content = said;
  }
  return summary(timings, first, end);
}

function summary(timings, first, end) {
  const parts = [`first token after ${number(first / 1000)} s`];
  if (timings && timings.predicted_n) {
    parts.push(`${timings.predicted_n} tokens, ${number(timings.predicted_per_second)} a second`);
  }
  if (end === 'length') parts.push('cut there: it would go on');
  return parts.join(', ');
}

function why(error) {
  if (error.name === 'AbortError') return 'Stopped.';
  if (error instanceof Locked) return 'The API key is not valid (any more).';
  if (!(error instanceof Refused)) return 'The connection broke off before the answer was whole.';
  const again = Number(error.again);
  return error.message.replace(/([^.!?])$/, '$1.') + (again > 0 ? ` Try again in ${duration(again)}.` : '');
}

function busy(controller) {
  running = controller;
  byId('send').hidden = Boolean(controller);
  byId('stop').hidden = !controller;
  byId('clear').disabled = byId('chat-model').disabled = Boolean(controller);
}

async function send() {
  const question = byId('question').value.trim();
  const model = byId('chat-model').value;
  if (running || !question || !model) return;
  byId('question').value = '';
  bubble('user').text.append(question);
  talk.push({role: 'user', content: question});
  const parts = bubble('assistant');
  const controller = new AbortController();
  const hadFocus = document.activeElement === byId('send');
  busy(controller);
  if (hadFocus) byId('stop').focus();
  byId('talk').scrollTop = byId('talk').scrollHeight;
  say(byId('chat-status'), 'Answering…');
  const messages = [...talk];
  talk.push({role: 'assistant', content: ''});
  try {
    say(byId('chat-status'), await answer(model, messages, parts, controller.signal));
  } catch (error) {
    say(byId('chat-status'), '');
    follow(() => parts.box.append(make('p', {class: 'error', role: 'alert'}, why(error))));
  } finally {
    // There is nothing to go on from where not a word was answered.
    if (talk.length && !talk[talk.length - 1].content) talk.splice(-2);
    const hadStop = document.activeElement === byId('stop');
    busy(null);
    if (hadStop) byId('question').focus();
  }
}

function clear() {
  talk.length = 0;
  byId('talk').replaceChildren();
  byId('talk').hidden = byId('clear').hidden = true;
  say(byId('chat-status'), '');
  byId('question').focus();
}

export function showChat(models) {
  const served = models.filter(model => model.phase !== 'absent');
  const select = byId('chat-model');
  byId('chat').hidden = !served.length;
  const names = JSON.stringify(served.map(({name, phase}) => [name, phase]));
  if (select.dataset.names === names) return;
  const chosen = select.value || (served.find(model => model.phase === 'ready') || {}).name;
  select.dataset.names = names;
  select.replaceChildren(...served.map(({name, phase}) =>
    make('option', {value: name}, phase === 'ready' ? name : `${name} (${phase})`)));
  if (served.some(model => model.name === chosen)) select.value = chosen;
}

export function tryModel(name) {
  if (!running) byId('chat-model').value = name;
  byId('question').focus();
}

export function startChat() {
  byId('ask').addEventListener('submit', event => {
    event.preventDefault();
    send();
  });
  byId('question').addEventListener('keydown', event => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  byId('stop').addEventListener('click', () => running && running.abort());
  byId('clear').addEventListener('click', clear);
}

// Nothing of it may stay on a page that is locked.
export function endChat() {
  if (running) running.abort();
  talk.length = 0;
  byId('talk').replaceChildren();
  byId('talk').hidden = byId('clear').hidden = byId('chat').hidden = true;
}
