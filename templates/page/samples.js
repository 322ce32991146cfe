// What the models did over the last minutes: counters of /metrics, read again and again.
// In: Prometheus text. Out: by model what is now, and points of what was. Gone with the page.

const WINDOW_S = 300;
const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? +(\S+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
const COUNTED = {
  'llamacpp:tokens_predicted_total': 'tokens',
  'llamacpp:tokens_predicted_seconds_total': 'working',
  'llm_reconcile_requests_total': 'requests',
};
const STANDING = {
  'llamacpp:requests_processing': 'busy',
  'llamacpp:requests_deferred': 'waiting',
  'llm_reconcile_instance_resident_memory_bytes': 'memory',
};

function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of (text || '').matchAll(LABEL)) {
    labels[name] = value.replace(/\\(.)/g, (_, sign) => (sign === 'n' ? '\n' : sign));
  }
  return labels;
}

// By model: each counter's value by its series, and the sums of what stands.
export function parse(text) {
  const models = new Map();
  for (const line of text.split('\n')) {
    const found = LINE.exec(line);
    const name = found && (COUNTED[found[1]] || STANDING[found[1]]);
    const value = found ? Number(found[3]) : NaN;
    if (!name || !Number.isFinite(value)) continue;
    const model = labelsOf(found[2]).model;
    if (model === undefined) continue;
    if (!models.has(model)) models.set(model, {counters: new Map(), sums: {}});
    const own = models.get(model);
    if (COUNTED[found[1]]) own.counters.set(found[1] + found[2], {name, value});
    else own.sums[name] = (own.sums[name] || 0) + value;
  }
  return models;
}

// A counter that went down, or is new, belongs to a server that was started meanwhile: it counts from 0.
function risen(before, after) {
  const sums = {};
  for (const [series, {name, value}] of after.counters) {
    const old = before.counters.get(series);
    const least = old && old.value <= value ? old.value : 0;
    sums[name] = (sums[name] || 0) + value - least;
  }
  return sums;
}

// A server counts the tokens of an answer when it is whole, and how long they took. They are shown
// where they came to be: over that time, backwards from now.
function spread(points, tokens, working, before) {
  const last = points[points.length - 1];
  const took = Math.max(last.seconds, working / Math.max(1, before.sums.busy || 0));
  let left = took;
  for (let i = points.length - 1; i >= 0 && left > 0; i -= 1) {
    const part = Math.min(left, points[i].seconds);
    points[i].tokens += tokens * part / took / points[i].seconds;
    left -= part;
  }
}

// Requests are few: at each point those of the minute before it.
function lastMinute(points, until) {
  return points.filter(({at}) => at <= until && until - at < 60)
    .reduce((sum, {requests}) => sum + requests, 0);
}

export class Samples {
  constructor() {
    this.points = new Map();
    this.last = new Map();
    this.at = 0;
    this.areCounted = false;
  }

  // A new page of metrics; `now` in seconds.
  add(text, now) {
    const models = parse(text);
    const seconds = now - this.at;
    this.areCounted = /^llm_reconcile_requests_total\{/m.test(text);
    for (const [model, found] of models) {
      const before = this.last.get(model);
      // A pause, as of a hidden tab, is no point: what was in it is not known.
      if (!before || seconds <= 0 || seconds > 30) continue;
      const points = (this.points.get(model) || []).filter(({at}) => now - at <= WINDOW_S);
      const {tokens, working, requests} = risen(before, found);
      const running = (found.sums.busy || 0) + (found.sums.waiting || 0);
      points.push({at: now, seconds, tokens: 0, requests: requests || 0, running});
      spread(points, tokens || 0, working || 0, before);
      this.points.set(model, points);
    }
    this.last = models;
    this.at = now;
  }

  // The points of one thing: [seconds ago, value]; `now` is when it was looked at last.
  series(model, name) {
    const points = this.points.get(model) || [];
    if (name === 'requests') return points.map(point => [this.at - point.at, lastMinute(points, point.at)]);
    return points.map(point => [this.at - point.at, point[name]]);
  }

  standing(model) {
    const found = this.last.get(model);
    return found ? found.sums : {};
  }
}

export {WINDOW_S};
