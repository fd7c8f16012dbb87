// stream follows /events for ever. It is fetched, not an EventSource,
// because that can't send a token. on.view gets each view; on.ask is told when
// a token is needed, and given a function to go on with.
export async function stream(on) {
  let token = sessionStorage.getItem('patchbay-token') || '';
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const answer = await fetch('events', { headers: token ? { Authorization: 'Bearer ' + token } : {} });
      if (answer.status === 401) {
        token = await new Promise((done) => on.ask(done));
        sessionStorage.setItem('patchbay-token', token);
        wait = 250;
        continue;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      wait = 250;
      await read(answer.body, on.view);
    } catch {
      // what is shown stays
    }
    on.state('the control plane does not answer; what is shown is old. Trying again…');
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(body, view) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ''; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const messages = rest.split('\n\n');
    rest = messages.pop();
    for (const m of messages) {
      const data = m.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).join('\n');
      if (data) view(JSON.parse(data));
    }
  }
}
