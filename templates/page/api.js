// All questions to the gateway, and the key that they carry.
// In: a path. Out: the answer, or one of the errors below. The key lives in this page's memory only.

const PATIENCE_MS = 5000;
let key = '';

// This key, or none, does not do.
export class Locked extends Error {}

// The gateway said no; its own words, and in how many seconds it wants to be asked again.
export class Refused extends Error {
  constructor(status, message, again) {
    super(message);
    this.status = status;
    this.again = again;
  }
}

export function setKey(value) {
  key = value;
}

export function hasKey() {
  return key !== '';
}

async function refusal(reply) {
  let message = `status ${reply.status}`;
  try {
    message = (await reply.json()).error.message || message;
  } catch {
    // A proxy in between may answer as it likes.
  }
  return new Refused(reply.status, String(message), reply.headers.get('Retry-After'));
}

// The headers of an answer have come, and it is a good one.
export async function ask(path, options = {}) {
  // What no header can carry is no key.
  if (/[^!-~]/.test(key)) throw new Locked();
  const headers = {...options.headers, ...(key && {Authorization: `Bearer ${key}`})};
  const reply = await fetch(path, {...options, headers, cache: 'no-store'});
  if (reply.status === 401) throw new Locked();
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

export function look(path) {
  return ask(path, {signal: AbortSignal.timeout(PATIENCE_MS)});
}

// The same, where not being there is an answer: null.
export async function lookIfThere(path) {
  try {
    return await look(path);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}
