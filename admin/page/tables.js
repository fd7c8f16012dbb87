// The lists: services, sidecars, findings, events.
import { el, rate, percent, left, calls } from './model.js';

const table = (head, rows) => el('table', {}, el('thead', {}, el('tr', {}, ...head.map((h) => el('th', { scope: 'col' }, h)))), el('tbody', {}, ...rows));
const pick = (choose, kind, name) => el('button', { class: 'link', type: 'button', 'data-key': `${kind} ${name}`, onclick: () => choose(kind, name) }, name);

export function services(host, m, choose) {
  host.replaceChildren(table(['Service', 'Called as', 'Endpoints', 'Requests/s', 'Errors', 'p99', 'Encrypted', 'Certificate', 'State'], m.services.map((s) => {
    const c = calls(m, s.name);
    const found = m.about.get(s.name) || [];
    const total = Object.values(s.endpoints).reduce((a, b) => a + b, 0);
    return el('tr', {},
      el('td', {}, pick(choose, 'service', s.name)),
      el('td', {}, s.aliases.filter((a) => !a.lostTo).map((a) => `${a.dnsName}:${a.port}`).join(' ')),
      el('td', { class: s.endpoints.UNHEALTHY || !total ? 'bad' : '' }, total ? Object.entries(s.endpoints).map(([h, n]) => `${n} ${h.toLowerCase()}`).join(', ') : 'none'),
      el('td', {}, rate(c.rate)),
      el('td', { class: c.errors > 0.005 ? 'bad' : '' }, percent(c.errors, c.rate)),
      el('td', {}, c.p99 ? c.p99.toFixed(1) + ' ms' : '–'),
      el('td', { class: c.other && s.tls ? 'bad' : s.tls ? 'good' : 'dim' }, s.tls ? percent(c.encrypted, c.encrypted + c.other) : 'plain'),
      el('td', {}, s.tls ? left(s.tls.notAfter, m.now) : '–'),
      el('td', { class: found.length ? m.state(s.name) : 'good' }, found.length ? found[0].code + ' ' + found[0].title : s.source));
  })));
}

export function sidecars(host, m, choose) {
  const types = ['cds', 'eds', 'lds', 'rds', 'sds'];
  host.replaceChildren(table(['Sidecar', 'Zone', 'Envoy', ...types.map((t) => t.toUpperCase()), 'State'], m.sidecars.map((s) => {
    const found = m.about.get(s.node) || [];
    return el('tr', {},
      el('td', {}, pick(choose, 'sidecar', s.node)),
      el('td', {}, s.zone || '–'),
      el('td', {}, s.agent ? s.agent.envoyVersion : 'no agent'),
      ...types.map((t) => {
        const sync = s.stream?.types.find((x) => x.type === t);
        return el('td', { class: !sync ? 'dim' : sync.state === 'synced' ? 'good' : sync.state === 'rejected' ? 'bad' : 'weak' }, sync ? sync.state : s.stream ? '–' : 'not connected');
      }),
      el('td', { class: found.length ? m.state(s.node) : 'good' }, found.length ? found[0].code + ' ' + found[0].title : s.agent?.draining ? 'draining' : 'well'));
  })));
}

export function finding(f, choose) {
  const name = f.subject.split(' ')[0];
  return el('div', { class: 'finding ' + f.severity },
    el('p', {}, el('strong', {}, `${f.code} ${f.title}: `), choose ? pick(choose, name.split('/').length === 3 ? 'sidecar' : 'service', name) : f.subject),
    el('p', {}, 'because ' + f.cause),
    f.evidence.length ? el('ul', {}, ...f.evidence.filter(Boolean).map((e) => el('li', { class: 'dim' }, e))) : null,
    el('p', {}, 'What to do:'), el('ul', {}, ...f.fix.map((x) => el('li', {}, el('code', {}, x)))));
}

export function findings(host, m, choose) {
  host.replaceChildren(...(m.findings.length ? m.findings.map((f) => finding(f, choose)) : [el('p', { class: 'good' }, 'Nothing is wrong.')]));
}

export function events(host, m) {
  host.replaceChildren(m.events.length ? table(['When', 'What', 'Event'], m.events.map((e) => el('tr', {},
    el('td', {}, new Date(e.at).toLocaleTimeString()), el('td', {}, e.subject), el('td', { class: e.bad ? 'bad' : '' }, e.text)))) : el('p', { class: 'dim' }, 'Nothing has changed since the control plane started.'));
}
