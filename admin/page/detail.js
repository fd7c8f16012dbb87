// What was chosen: a workload, a service or a sidecar, or else the whole mesh,
// with its traffic over the last minutes as charts.
import { el, rate, percent, ms, left, calls, total, workload } from './model.js';
import { finding } from './tables.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const history = 600; // views: ten minutes

const rows = (...pairs) => el('dl', {}, ...pairs.filter(Boolean).flatMap(([k, v, c]) => [el('dt', {}, k), el('dd', { class: c }, v)]));
const part = (title, ...children) => el('div', { class: 'part' }, el('h3', {}, title), ...children);
const list = (items, none) => (items.length ? el('ul', {}, ...items.map((x) => (x instanceof Element && x.tagName === 'LI' ? x : el('li', {}, x)))) : el('p', { class: 'dim' }, none));
const health = (endpoints) => Object.entries(endpoints).filter(([, n]) => n).map(([h, n]) => `${n} ${h.toLowerCase()}`).join(', ') || 'none';
const share = (t) => (t.encrypted + t.other ? `${percent(t.encrypted, t.encrypted + t.other)} of ${t.encrypted + t.other} connections are TLS 1.3` : 'no connection yet');

export class Detail {
  constructor(host, choose, ask) {
    Object.assign(this, { host, choose, ask, past: [], charts: new Map() });
  }

  remember(view) {
    const of = new Map();
    for (const e of view.traffic.edges) for (const key of [e.service, e.workload, '']) of.set(key, [...(of.get(key) || []), e]);
    this.past.push({ at: Date.parse(view.status.at) / 1000, of: new Map([...of].map(([k, edges]) => [k, total(edges)])) });
    if (this.past.length > history) this.past.shift();
  }

  restyle() {
    this.charts.clear();
    for (const c of this.host.querySelectorAll('.chart')) c.replaceChildren();
  }

  link(kind, name) {
    return el('button', { class: 'link', type: 'button', 'data-key': `${kind} ${name}`, onclick: () => this.choose(kind, name) }, name);
  }

  update(m, chosen) {
    const key = chosen ? `${chosen.kind} ${chosen.name}` : 'mesh';
    if (this.shown !== key) {
      this.shown = key;
      this.instances = null;
      this.charts.clear();
      this.host.replaceChildren();
      this.host.scrollTop = 0;
    }
    const make = { service: this.service, sidecar: this.sidecar, workload: this.workload }[chosen?.kind] || this.mesh;
    this.put(make.call(this, m, chosen?.name).flat().filter(Boolean));
  }

  // put replaces only those parts that say something else now.
  put(parts) {
    const focus = document.activeElement?.dataset?.key;
    parts.forEach((p, i) => {
      const old = this.host.children[i];
      if (!old) this.host.append(p);
      else if (p.dataset.chart && old.dataset.chart === p.dataset.chart) old.setAttribute('aria-label', p.getAttribute('aria-label'));
      else if (old.outerHTML !== p.outerHTML) old.replaceWith(p);
    });
    while (this.host.children.length > parts.length) this.host.lastChild.remove();
    if (focus && document.activeElement === document.body) this.host.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    for (const c of this.host.querySelectorAll('[data-chart]')) this.draw(c);
  }

  title(text, kind) {
    return el('div', { class: 'part' }, kind && el('button', { class: 'back', type: 'button', 'data-key': 'back', onclick: () => this.choose(null), 'aria-label': 'Back to the whole mesh' }, '‹ mesh'), el('h2', {}, kind && el('span', { class: 'kind' }, kind + ' '), text));
  }

  found(m, ...names) {
    return names.flatMap((n) => m.about.get(n) || []).map((f) => finding(f));
  }

  mesh(m) {
    const st = m.view.status;
    const t = total(m.view.traffic.edges);
    const refused = m.view.traffic.ingresses.reduce((n, i) => n + (i.refused || 0), 0);
    const worst = m.view.findings.slice(0, 3);
    return [
      this.title('The mesh'),
      worst.length > 0 && part('Findings', ...worst.map((f) => finding(f, this.choose)), m.view.findings.length > 3 && el('p', {}, `and ${m.view.findings.length - 3} more, in the list of findings`)),
      part('Traffic', rows(['requests', `${rate(t.rate)}/s`], ['failed', percent(t.errors, t.rate), t.errors > 0.005 ? 'bad' : ''], ['encrypted', share(t), t.other ? 'bad' : ''], ['plain, as declared', String(t.open)], ['refused at ports', String(refused)])),
      this.chart('', 'rate'), this.chart('', 'p99'),
      part('Control plane', rows(
        ['replica', st.replica], ['version', st.version], ['ready', st.ready ? 'yes' : st.reasons.join('; '), st.ready ? 'good' : 'bad'],
        st.survivableSeconds !== undefined && ['runs on without its CA for', left(new Date(Date.parse(st.at) + 1000 * st.survivableSeconds), st.at)],
        ...st.namespaces.map((n) => ['namespace ' + n.name, n.error || (n.stale ? 'the registry does not answer; what was known stays' : n.synced ? 'current' : 'being read'), n.error || n.stale ? 'bad' : '']),
        ...st.issuers.map((i) => ['issuer ' + i.name, i.lastError || `${i.roots} ${i.roots === 1 ? 'root' : 'roots'}, answers`, i.lastError ? 'bad' : '']))),
      part('Busiest services', list(m.view.status.services.map((s) => [s.name, calls(m, s.name).rate]).filter(([, r]) => r > 0.005).sort((a, b) => b[1] - a[1]).slice(0, 6).map(([n, r]) => el('li', {}, this.link('service', n), ` ${rate(r)}/s`)), 'no requests')),
    ];
  }

  service(m, name) {
    const s = m.view.status.services.find((x) => x.name === name);
    if (!s) return [this.title(name, 'service'), el('p', {}, 'It is gone.')];
    const c = calls(m, name);
    this.load(name, JSON.stringify(s.endpoints) + m.view.status.sidecars.length);
    return [
      this.title(name, 'service'), ...this.found(m, name),
      part('Called as', rows(...s.aliases.map((a) => [`${a.dnsName}:${a.port}`, a.lostTo ? 'lost to ' + a.lostTo : a.vip || '', a.lostTo ? 'bad' : '']), ['protocol', s.protocol || '–'], ['known from', s.source])),
      part('Traffic', rows(['requests', `${rate(c.rate)}/s`], ['failed', percent(c.errors, c.rate), c.errors > 0.005 ? 'bad' : ''], ['latency', c.p99 ? `p50 ${ms(c.p50)}, p99 ${ms(c.p99)}` : '–'], ['encrypted', s.tls ? share(c) : 'no: it has no tls', s.tls && c.other ? 'bad' : ''])),
      this.chart(name, 'rate'), this.chart(name, 'p99'),
      part(`Endpoints: ${health(s.endpoints)}`, this.endpoints()),
      s.tls && part('Certificate', rows(['issuer', s.tls.issuer], ['serial', s.tls.serial || 'none yet'], ['names', s.tls.names.join(', ')], ['valid for', left(s.tls.notAfter, m.now), s.tls.alarm ? 'bad' : ''], s.tls.lastError && ['newest attempt', s.tls.lastError, 'bad'])),
      part('Called by', list(c.edges.map((e) => el('li', {}, this.link('workload', e.workload), ` ${rate(e.requestRate)}/s, ${percent(e.errorRate, e.requestRate)} failed, p99 ${ms(e.p99Ms || 0)}`)), 'nobody yet')),
      part('Offered by', list([...(m.offers.get(name) || [])].filter((w) => w !== name).map((w) => this.link('workload', w)), 'no task')),
      this.events(m, (e) => e.subject === name),
    ];
  }

  // load asks for a service's endpoints when their number has changed.
  load(name, version) {
    if (this.asked === name + version) return;
    this.asked = name + version;
    this.ask('api/v1/service?name=' + encodeURIComponent(name)).then((d) => {
      if (this.shown !== 'service ' + name) return;
      this.instances = d.instances;
    }, () => { this.asked = ''; });
  }

  endpoints() {
    if (!this.instances) return el('p', { class: 'dim' }, 'asking…');
    return list(this.instances.map((e) => el('li', { class: e.health === 'UNHEALTHY' ? 'bad' : '' }, `${e.instanceId} ${e.address}${e.zone ? ' in ' + e.zone : ''}: ${e.health.toLowerCase()}, ${e.tls ? 'TLS' : 'plain'}${e.revision ? ', ' + e.revision : ''}`)), 'none');
  }

  events(m, which) {
    const some = m.view.events.filter(which).slice(0, 8);
    return part('Recent events', list(some.map((e) => el('li', { class: e.bad ? 'bad' : '' }, new Date(e.at).toLocaleTimeString() + ' ' + e.text)), 'none since the control plane started'));
  }

  workload(m, id) {
    const w = m.workloads.find((x) => x.id === id);
    if (!w) return [this.title(id, 'workload'), el('p', {}, 'It is gone.')];
    if (w.alone) return this.service(m, id);
    const made = m.view.traffic.edges.filter((e) => e.workload === id);
    const into = m.edges.filter((e) => e.to === id);
    const about = new Set([id, ...w.services, ...w.tasks.map((t) => t.node)]);
    return [
      this.title(id, 'workload'), ...this.found(m, ...about),
      part(`Tasks: ${w.tasks.length}, ${w.sync}`, list(w.tasks.map((t) => el('li', {}, this.link('sidecar', t.node), t.zone ? ' in ' + t.zone : '')), 'none')),
      w.services.size > 0 && part('Offers', list([...w.services].map((s) => el('li', {}, this.link('service', s), ` ${rate(calls(m, s).rate)}/s`)), '')),
      into.length > 0 && part('Called by', list([...new Set(into.map((e) => e.from))].map((f) => el('li', {}, this.link('workload', f), ` ${rate(total(into.filter((e) => e.from === f)).rate)}/s`)), '')),
      made.length > 0 && part('Calls', list(made.map((e) => el('li', {}, this.link('service', e.service), ` ${rate(e.requestRate)}/s, ${percent(e.errorRate, e.requestRate)} failed, p99 ${ms(e.p99Ms || 0)}, ${e.plain ? 'plain text although it has TLS' : e.tls13 ? 'TLS 1.3' : e.undeclared ? 'plain text, as declared' : 'no connection'}`)), '')),
      made.length > 0 && this.chart(id, 'rate'),
      this.events(m, (e) => about.has(e.subject)),
    ];
  }

  sidecar(m, node) {
    const s = m.view.status.sidecars.find((x) => x.node === node);
    if (!s) return [this.title(node, 'sidecar'), el('p', {}, 'It has left.')];
    const a = s.agent;
    return [
      this.title(node, 'sidecar'), ...this.found(m, node),
      el('div', { class: 'part' }, rows(['workload', this.link('workload', workload(node))], ['address', s.address || '–'], ['zone', s.zone || '–'], ['Envoy', a ? `${a.envoyVersion}, ${a.envoyReady ? 'ready' : a.envoyError || 'not ready'}` : 'no agent is connected', a?.envoyReady ? '' : 'bad'], ['agent', a ? a.version : '–'], ['wiring', a ? a.wiring : '–'], ['certificate', s.leafNotAfter ? left(s.leafNotAfter, m.now) : 'none: it offers nothing with TLS'], ['served by', s.replica])),
      part('Configuration', list((s.stream?.types || []).map((t) => el('li', { class: { synced: 'good', rejected: 'bad' }[t.state] || 'weak' }, `${t.type}: ${t.resources} resources, ${t.state} ${(t.names || []).join(', ')}`, ...(t.rejections || []).map((r) => el('p', {}, `${r.name}: ${r.error}`)))), 'its Envoy is not connected')),
      s.ports.length > 0 && part('Ports', list(s.ports.map((p) => el('li', { class: p.registered ? '' : 'bad' }, `${p.portName} of `, this.link('service', p.service), `: ${p.health.toLowerCase()}${p.registered ? '' : ', not registered'} ${p.error || p.why || ''}`)), '')),
      this.events(m, (e) => e.subject === node),
    ];
  }

  // chart is a place for one: of a service, a workload, or all ("").
  chart(of, what) {
    const now = this.past.at(-1)?.of.get(of);
    const text = what === 'rate' ? `Requests per second: ${rate(now?.rate || 0)}, failed: ${rate(now?.errors || 0)}` : `Latency, 99th percentile: ${ms(now?.p99 || 0)}`;
    return el('div', { class: 'chart', role: 'img', 'aria-label': text, 'data-chart': `${what} ${of}`, 'data-what': what, 'data-of': of });
  }

  draw(place) {
    const { what, of, chart } = place.dataset;
    const line = (f) => this.past.map((p) => f(p.of.get(of)) || 0);
    const data = [this.past.map((p) => p.at), ...(what === 'rate' ? [line((t) => t?.rate), line((t) => t?.errors)] : [line((t) => t?.p99)])];
    const old = this.charts.get(chart);
    if (old && place.contains(old.root)) return old.setData(data);
    const axis = { stroke: css('dim'), grid: { stroke: css('rule'), width: 1 }, ticks: { stroke: css('rule') } };
    const value = (unit) => (u, v) => v.map((x) => x + unit);
    const clock = (u, v) => v.map((x) => new Date(x * 1000).toTimeString().slice(0, 8));
    this.charts.set(chart, new uPlot({
      title: what === 'rate' ? 'Requests/s, and failed' : 'p99', width: this.host.clientWidth - 36, height: 128, cursor: { show: false }, legend: { show: false },
      scales: { y: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.15)] } },
      axes: [{ ...axis, values: clock, space: 80 }, { ...axis, size: 54, values: value(what === 'rate' ? '' : ' ms') }],
      series: what === 'rate' ? [{}, { stroke: css('tls'), width: 2 }, { stroke: css('bad'), width: 2, dash: [4, 3] }] : [{}, { stroke: css('accent'), width: 2 }],
    }, data, place));
  }
}
