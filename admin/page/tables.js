// The lists: services, sidecars, findings, events. A row is made anew only if
// what it says has changed, so that a selection and the focus stay.
import { el, rate, percent, ms, left, calls } from './model.js';

// A column is [title, cell(row), order(row)]; a cell is a text, or {text,
// class, pick: [kind, name]}.
class Table {
  constructor(host, caption, columns, key, choose) {
    Object.assign(this, { columns, key, choose, rows: new Map(), by: null, down: false });
    this.body = el('tbody');
    this.heads = columns.map(([title, , order], i) => el('th', { scope: 'col' }, order ? el('button', { class: 'sort', type: 'button', onclick: () => this.sort(i) }, title) : title));
    this.table = el('table', {}, el('caption', { class: 'hidden' }, caption), el('thead', {}, el('tr', {}, ...this.heads)), this.body);
    this.none = el('p', { class: 'dim', hidden: '' });
    host.replaceChildren(this.table, this.none);
  }

  sort(i) {
    this.down = this.by === i ? !this.down : typeof this.columns[i][2](this.last[0] || {}) === 'number';
    this.by = i;
    this.heads.forEach((h, j) => (j === i ? h.setAttribute('aria-sort', this.down ? 'descending' : 'ascending') : h.removeAttribute('aria-sort')));
    this.update(this.last, this.empty);
  }

  update(rows, empty) {
    this.last = rows;
    this.empty = empty;
    this.table.hidden = rows.length === 0;
    this.none.hidden = rows.length > 0;
    if (this.none.textContent !== empty) this.none.textContent = empty;
    if (this.by !== null) {
      const order = this.columns[this.by][2];
      rows = [...rows].sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0) * (this.down ? -1 : 1));
    }
    const seen = new Map();
    let at = this.body.firstChild;
    for (const r of rows) {
      const k = this.key(r);
      if (seen.has(k)) continue;
      const cells = this.columns.map(([, cell]) => cell(r));
      const words = JSON.stringify(cells);
      const old = this.rows.get(k);
      const row = old || { tr: el('tr') };
      if (row.words !== words) {
        const focused = row.tr.contains(document.activeElement);
        row.tr.replaceChildren(...cells.map((c) => this.cell(c)));
        if (focused) row.tr.querySelector('button')?.focus({ preventScroll: true });
        row.words = words;
      }
      seen.set(k, row);
      if (at === row.tr) at = at.nextSibling;
      else this.body.insertBefore(row.tr, at);
    }
    for (const [k, row] of this.rows) if (!seen.has(k)) row.tr.remove();
    this.rows = seen;
  }

  cell(c) {
    if (typeof c !== 'object') return el('td', {}, c);
    return el('td', { class: c.class }, c.pick ? el('button', { class: 'link', type: 'button', onclick: () => this.choose(...c.pick) }, c.text) : c.text);
  }
}

const found = (m, name, well) => {
  const all = m.about.get(name) || [];
  return all.length ? { text: `${all[0].code} ${all[0].title}${all.length > 1 ? ` and ${all.length - 1} more` : ''}`, class: m.state(name) } : { text: well, class: 'good' };
};
const severity = (m, name) => ({ bad: 2, weak: 1, good: 0 })[m.state(name)];

export class Tables {
  constructor(host, choose) {
    this.choose = choose;
    this.host = host;
    let m; // of the update under way
    this.set = (now) => { m = now; };
    const total = (s) => Object.values(s.endpoints).reduce((a, b) => a + b, 0);
    const of = (s) => m.calls.get(s.name);
    this.services = new Table(host('services'), 'Services', [
      ['Service', (s) => ({ text: s.name, pick: ['service', s.name] }), (s) => s.name],
      ['Called as', (s) => s.aliases.filter((a) => !a.lostTo).map((a) => `${a.dnsName}:${a.port}`).join(' ')],
      ['Endpoints', (s) => ({ text: total(s) ? Object.entries(s.endpoints).filter(([, n]) => n).map(([h, n]) => `${n} ${h.toLowerCase()}`).join(', ') : 'none', class: s.endpoints.UNHEALTHY || !total(s) ? 'bad' : '' }), total],
      ['Requests/s', (s) => ({ text: rate(of(s).rate), class: 'num' }), (s) => of(s).rate],
      ['Errors', (s) => ({ text: percent(of(s).errors, of(s).rate), class: of(s).errors > 0.005 ? 'num bad' : 'num' }), (s) => of(s).errors / (of(s).rate || 1)],
      ['p50', (s) => ({ text: of(s).p50 ? ms(of(s).p50) : '–', class: 'num' }), (s) => of(s).p50],
      ['p99', (s) => ({ text: of(s).p99 ? ms(of(s).p99) : '–', class: 'num' }), (s) => of(s).p99],
      ['Encrypted', (s) => (s.tls ? { text: of(s).encrypted + of(s).other ? percent(of(s).encrypted, of(s).encrypted + of(s).other) : 'no calls yet', class: of(s).other ? 'bad' : 'good' } : { text: 'plain', class: 'dim' }), (s) => (s.tls ? of(s).encrypted / (of(s).encrypted + of(s).other || 1) : -1)],
      ['Certificate', (s) => ({ text: s.tls ? left(s.tls.notAfter, m.now) : '–', class: s.tls?.alarm ? 'bad' : '' }), (s) => (s.tls ? Date.parse(s.tls.notAfter || 0) : Infinity)],
      ['State', (s) => found(m, s.name, s.source), (s) => severity(m, s.name)],
    ], (s) => s.name, choose);
    const types = ['cds', 'eds', 'lds', 'rds', 'sds'];
    const state = (s, t) => s.stream?.types.find((x) => x.type === t)?.state || (s.stream ? '–' : 'not connected');
    this.sidecars = new Table(host('sidecars'), 'Sidecars', [
      ['Sidecar', (s) => ({ text: s.node, pick: ['sidecar', s.node] }), (s) => s.node],
      ['Address', (s) => s.address || '–', (s) => s.address || ''],
      ['Zone', (s) => s.zone || '–', (s) => s.zone || ''],
      ['Envoy', (s) => (s.agent ? s.agent.envoyVersion : 'no agent'), (s) => s.agent?.envoyVersion || ''],
      ...types.map((t) => [t.toUpperCase(), (s) => ({ text: state(s, t), class: { synced: 'good', rejected: 'bad', '–': 'dim' }[state(s, t)] || 'weak' }), (s) => state(s, t)]),
      ['Last ACK', (s) => ({ text: s.stream ? ms(1000 * Math.max(0, ...s.stream.types.map((t) => t.lastAckSeconds || 0))) : '–', class: 'num' }), (s) => Math.max(0, ...(s.stream?.types || []).map((t) => t.lastAckSeconds || 0))],
      ['Certificate', (s) => left(s.leafNotAfter, m.now), (s) => Date.parse(s.leafNotAfter || 0)],
      ['State', (s) => found(m, s.node, s.agent?.draining ? 'draining' : 'well'), (s) => severity(m, s.node)],
    ], (s) => s.node, choose);
    this.events = new Table(host('events'), 'Events, the newest first', [
      ['When', (e) => new Date(e.at).toLocaleTimeString()],
      ['What', (e) => ({ text: e.subject, pick: [kind(e.subject), e.subject.split(' ')[0]] })],
      ['Event', (e) => ({ text: e.text, class: e.bad ? 'bad' : '' })],
    ], (e) => e.at + e.subject + e.text, choose);
  }

  // update draws the list that is seen; the others when they are.
  update(m, seen) {
    this.set(m);
    const none = m.query ? `Nothing here matches “${m.query}”.` : '';
    if (seen === 'services') {
      m.calls = new Map(m.services.map((s) => [s.name, calls(m, s.name)]));
      this.services.update(m.services, none || 'No service has been registered yet.');
    }
    if (seen === 'sidecars') this.sidecars.update(m.sidecars, none || 'No sidecar is connected yet.');
    if (seen === 'events') this.events.update(m.events, none || 'Nothing has changed since the control plane started.');
    if (seen === 'findings') this.findings(m, none);
  }

  findings(m, none) {
    const words = JSON.stringify(m.findings) + none;
    if (this.told === words) return;
    this.told = words;
    const host = this.host('findings');
    host.replaceChildren(...(m.findings.length ? m.findings.map((f) => finding(f, this.choose)) : [el('p', { class: none ? 'dim' : 'good' }, none || 'Nothing is wrong.')]));
  }
}

export const kind = (subject) => (subject.split(' ')[0].split('/').length === 3 ? 'sidecar' : 'service');

export function finding(f, choose) {
  const name = f.subject.split(' ')[0];
  return el('div', { class: 'finding ' + f.severity },
    el('p', {}, el('strong', {}, `${f.code} ${f.title}: `), choose ? el('button', { class: 'link', type: 'button', onclick: () => choose(kind(name), name) }, name) : f.subject),
    el('p', {}, 'because ' + f.cause),
    f.evidence.length ? el('ul', {}, ...f.evidence.filter(Boolean).map((e) => el('li', { class: 'dim' }, e))) : null,
    el('p', {}, 'What to do:'), el('ul', {}, ...f.fix.map((x) => el('li', {}, el('code', {}, x)))));
}
