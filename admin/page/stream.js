// The page's questions to the control plane. They are fetched, since an
// EventSource can't send a token.

const quiet = 40000; // ms: a stream that says less often than this is dead
const key = 'patchbay-token';

const headers = () => {
  const token = sessionStorage.getItem(key);
  return token ? { Authorization: 'Bearer ' + token } : {};
};

// ask gets one JSON answer.
export async function ask(path) {
  const answer = await fetch(path, { headers: headers() });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

// stream follows /events for ever. on.view gets each view; on.ask is told when
// a token is needed, and given a function to go on with.
export async function stream(on) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    const stop = new AbortController();
    try {
      const answer = await fetch('events', { headers: headers(), signal: stop.signal });
      if (answer.status === 401) {
        const refused = sessionStorage.getItem(key) !== null;
        sessionStorage.setItem(key, await new Promise((done) => on.ask(done, refused)));
        wait = 250;
        continue;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      wait = 250;
      await read(answer.body, on.view, stop);
    } catch {
      // what is shown stays
    }
    on.state('The control plane does not answer; what is shown is old. Trying again…');
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(body, view, stop) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = []; ; ) {
    const dead = setTimeout(() => stop.abort(), quiet);
    const { value, done } = await reader.read();
    clearTimeout(dead);
    if (done) return;
    rest.push(value);
    if (!value.includes('\n')) continue; // a large view comes in many pieces
    const messages = rest.join('').split('\n\n');
    rest = [messages.pop()];
    // Only the newest counts: each has everything.
    const data = messages.map((m) => m.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).join('\n')).filter(Boolean).at(-1);
    if (data) view(JSON.parse(data));
  }
}
