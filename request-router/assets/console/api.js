// Requests to the router that served this page, and only to it.

const KEY = 'atoll.key';
const ROOT = new URL('../', import.meta.url);

// Longest wait for an answer; the router's own deadlines are shorter.
export const TIMEOUT_MS = 8000;

// The key that the person typed in: for this tab, until it is closed.
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set(text) {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  },
};

// Why there is no answer, in words that can be shown.
export class Failure extends Error {
  constructor(message, { status = 0, code = null, problem = null } = {}) {
    super(message);
    Object.assign(this, { status, code, problem });
  }

  get wantsKey() {
    return this.status === 401 || this.status === 403;
  }
}

export const keyWanted = new EventTarget();

// The answer, whatever 2xx, 3xx or accepted status it has. Everything else throws a Failure.
export async function ask(path, { method = 'GET', headers = {}, json, accept = [], timeout = TIMEOUT_MS } = {}) {
  const head = new Headers(headers);
  const secret = key.get();
  if (secret) head.set('Authorization', `Bearer ${secret}`);
  if (json !== undefined) head.set('Content-Type', 'application/json');
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method,
      headers: head,
      body: json === undefined ? undefined : JSON.stringify(json),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(timeout),
    });
  } catch (error) {
    if (error.name === 'TimeoutError') throw new Failure(`no answer within ${timeout / 1000} s`);
    throw new Failure('the router does not answer');
  }
  if (response.ok || response.status === 304 || response.status === 300 || accept.includes(response.status)) return response;
  throw await failure(response);
}

async function failure(response) {
  const { status } = response;
  let problem = null;
  try {
    problem = await response.json();
  } catch {
    // Not a problem document: a proxy in between. The status has to do.
  }
  const said = problem?.detail ?? problem?.title ?? response.statusText;
  const result = new Failure(said ? `${said} (${status}${problem?.code ? ` ${problem.code}` : ''})` : `status ${status}`, { status, code: problem?.code, problem });
  if (result.wantsKey) keyWanted.dispatchEvent(new CustomEvent('wanted', { detail: result }));
  return result;
}

export const askJson = async (path, options) => {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch {
    throw new Failure('the answer broke off or is not JSON', { status: response.status });
  }
};

// The path of an object. '/' is escaped, too: browsers take '.' and '..' between slashes apart.
export const objectPath = (bucket, objectKey) =>
  `v1/kv/${encodeURIComponent(bucket)}/${encodeURIComponent(objectKey)}`;
