// Requests to the server. Every answer that is no success becomes an Error with `status` and the server's own line.

export class Refused extends Error {
  constructor(message, status, body = {}) {
    super(message);
    this.status = status; // 0: the server was not reached
    this.body = body;
  }
}

export const path = (name) => `/api/images/${name.split("/").map(encodeURIComponent).join("/")}`;

async function ask(url, settings) {
  let answer;
  try {
    answer = await fetch(url, settings);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the server does not answer", 0);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(body.error ?? `the server answers ${answer.status}`, answer.status, body);
}

export const get = async (url, signal) => (await ask(url, { signal })).json();

/** The whole answer, for its headers; 204 is one, too. */
export const fetchAnswer = (url, signal) => ask(url, { signal });

const CHANGES = { "X-Studio": "1" };

export async function send(url, body = {}, method = "POST") {
  const headers = { ...CHANGES, "Content-Type": "application/json" };
  const answer = await ask(url, { method, headers, body: method === "DELETE" ? undefined : JSON.stringify(body) });
  return answer.status === 204 ? {} : answer.json();
}

export async function sendFile(url, file) {
  const headers = { ...CHANGES, "Content-Type": "application/octet-stream" };
  return (await ask(url, { method: "POST", headers, body: file })).json();
}
