// What was chosen: a workload, a service or a sidecar, with its traffic over
// the last minutes as a chart.
import { el, rate, percent, left, calls, workload } from './model.js';
import { finding } from './tables.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const history = 300; // views

export class Detail {
  constructor(host, choose) {
    this.host = host;
    this.choose = choose;
    this.past = []; // {at, rates: Map(service → [requests, errors])}
    this.shown = '';
  }

  remember(view) {
    const rates = new Map();
    for (const e of view.traffic.edges) {
      const [r, f] = rates.get(e.service) || [0, 0];
      rates.set(e.service, [r + e.requestRate, f + e.errorRate]);
    }
    this.past.push({ at: Date.parse(view.status.at) / 1000, rates });
    if (this.past.length > history) this.past.shift();
  }

  restyle() {
    this.chart = null;
    this.shown = '';
  }

  link(kind, name) {
    return el('button', { class: 'link', type: 'button', 'data-key': `detail ${kind} ${name}`, onclick: () => this.choose(kind, name) }, name);
  }

  update(m, chosen) {
    if (!chosen) return;
    const focus = document.activeElement?.dataset?.key;
    const make = { service: this.service, sidecar: this.sidecar, workload: this.workload }[chosen.kind];
    this.host.replaceChildren(...make.call(this, m, chosen.name).filter(Boolean));
    if (focus) this.host.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    const place = this.host.querySelector('.chart');
    if (place) this.draw(place, chosen.name);
  }

  found(m, ...names) {
    return names.flatMap((n) => m.about.get(n) || []).map((f) => finding(f));
  }

  service(m, name) {
    const s = m.view.status.services.find((x) => x.name === name);
    if (!s) return [el('h2', {}, name), el('p', {}, 'It is gone.')];
    const c = calls(m, name);
    const rows = (pairs) => el('dl', {}, ...pairs.flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)]));
    return [
      el('h2', {}, name), ...this.found(m, name),
      rows([
        ['protocol', s.protocol || '–'], ['called as', s.aliases.map((a) => `${a.dnsName}:${a.port}`).join(', ')], ['source', s.source],
        ['endpoints', Object.entries(s.endpoints).map(([h, n]) => `${n} ${h.toLowerCase()}`).join(', ') || 'none'],
        ['requests', `${rate(c.rate)}/s, ${percent(c.errors, c.rate)} failed`],
        ['encrypted', s.tls ? `${percent(c.encrypted, c.encrypted + c.other)} of ${c.encrypted + c.other} connections are TLS 1.3` : 'no: it has no tls'],
      ]),
      el('h3', {}, 'Requests per second'), el('div', { class: 'chart' }),
      s.tls && el('h3', {}, 'Certificate'),
      s.tls && rows([['issuer', s.tls.issuer], ['serial', s.tls.serial || 'none'], ['names', s.tls.names.join(', ')], ['valid for', left(s.tls.notAfter, m.now)]]),
      el('h3', {}, 'Called by'),
      c.edges.length ? el('ul', {}, ...c.edges.map((e) => el('li', {}, this.link('workload', e.workload), ` ${rate(e.requestRate)}/s, p50 ${(e.p50Ms || 0).toFixed(1)} ms, p99 ${(e.p99Ms || 0).toFixed(1)} ms`))) : el('p', { class: 'dim' }, 'nobody yet'),
      el('h3', {}, 'Offered by'), el('ul', {}, ...[...(m.offers.get(name) || [])].map((w) => el('li', {}, this.link('workload', w)))),
      el('h3', {}, 'Recent events'), el('ul', {}, ...m.view.events.filter((e) => e.subject === name).slice(0, 8).map((e) => el('li', {}, new Date(e.at).toLocaleTimeString() + ' ' + e.text))),
    ];
  }

  workload(m, id) {
    const w = m.workloads.find((x) => x.id === id);
    if (!w) return [el('h2', {}, id), el('p', {}, 'It is gone.')];
    if (w.alone) return this.service(m, id);
    const made = m.view.traffic.edges.filter((e) => e.workload === id);
    return [
      el('h2', {}, id), ...this.found(m, ...w.services, ...w.tasks.map((t) => t.node)),
      el('h3', {}, 'Tasks'), el('ul', {}, ...w.tasks.map((t) => el('li', {}, this.link('sidecar', t.node)))),
      w.services.size > 0 && el('h3', {}, 'Offers'), w.services.size > 0 && el('ul', {}, ...[...w.services].map((s) => el('li', {}, this.link('service', s)))),
      made.length > 0 && el('h3', {}, 'Calls'), made.length > 0 && el('ul', {}, ...made.map((e) => el('li', {}, this.link('service', e.service), ` ${rate(e.requestRate)}/s, ${e.plain ? 'plain text although it has TLS' : e.tls13 ? 'TLS 1.3' : e.undeclared ? 'plain text, as declared' : 'no connection'}`))),
    ];
  }

  sidecar(m, node) {
    const s = m.view.status.sidecars.find((x) => x.node === node);
    if (!s) return [el('h2', {}, node), el('p', {}, 'It has left.')];
    const a = s.agent;
    return [
      el('h2', {}, node), ...this.found(m, node),
      el('dl', {}, ...[['workload', this.link('workload', workload(node))], ['address', s.address || '–'], ['zone', s.zone || '–'], ['Envoy', a ? a.envoyVersion : '–'], ['wiring', a ? a.wiring : '–'], ['certificate', left(s.leafNotAfter, m.now)]].flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)])),
      el('h3', {}, 'Configuration'), el('ul', {}, ...(s.stream?.types || []).map((t) => el('li', { class: t.state === 'synced' ? 'good' : 'bad' }, `${t.type}: ${t.resources} resources, ${t.state} ${(t.names || []).join(', ')}`))),
      s.ports.length > 0 && el('h3', {}, 'Ports'), s.ports.length > 0 && el('ul', {}, ...s.ports.map((p) => el('li', { class: p.registered ? '' : 'bad' }, `${p.portName} of ${p.service}: ${p.health.toLowerCase()}${p.registered ? '' : ', not registered'} ${p.error || p.why || ''}`))),
    ];
  }

  draw(place, service) {
    const data = [this.past.map((p) => p.at), this.past.map((p) => (p.rates.get(service) || [0])[0]), this.past.map((p) => (p.rates.get(service) || [0, 0])[1])];
    if (this.chart && this.shown === service) {
      place.replaceWith(this.chart.root.parentElement);
      this.chart.setData(data);
      return;
    }
    this.shown = service;
    const axis = { stroke: css('dim'), grid: { stroke: css('rule'), width: 1 }, ticks: { stroke: css('rule') } };
    this.chart = new uPlot({ width: 350, height: 140, cursor: { show: false }, legend: { show: false }, scales: { y: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.1)] } }, axes: [axis, { ...axis, size: 44 }], series: [{}, { stroke: css('tls'), width: 2 }, { stroke: css('bad'), width: 2 }] }, data, place);
  }
}
