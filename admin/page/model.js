// Helpers that all parts share, and the view in the form that they draw.

export const $ = (id) => document.getElementById(id);

// el makes an element: el('td', {class: 'bad'}, 'text', child…). All text goes
// in as text, never as markup.
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (v !== undefined && v !== false) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

export const rate = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2));
export const percent = (part, all) => {
  if (!all) return '–';
  const p = (100 * part) / all;
  return (part && p < 0.1 ? '<0.1' : part < all && p > 99.9 ? '>99.9' : p.toFixed(part && part < all ? 1 : 0)) + ' %';
};
export const ms = (n) => (n >= 1000 ? (n / 1000).toFixed(1) + ' s' : (n >= 10 ? n.toFixed(0) : n.toFixed(1)) + ' ms');
export const left = (until, now) => {
  if (!until) return '–';
  const s = (Date.parse(until) - Date.parse(now)) / 1000;
  if (s <= 0) return 'expired';
  return s > 172800 ? Math.floor(s / 86400) + ' days' : s > 7200 ? Math.floor(s / 3600) + ' h' : s > 120 ? Math.floor(s / 60) + ' min' : Math.floor(s) + ' s';
};

export const workload = (node) => node.slice(0, node.lastIndexOf('/'));

// model joins a view: workloads with their tasks, edges between them, and what
// was found about each; query keeps only what matches.
export function model(view, query) {
  const st = view.status;
  const about = new Map();
  for (const f of view.findings) {
    const key = f.subject.split(' ')[0];
    about.set(key, [...(about.get(key) || []), f]);
  }
  const state = (...names) => {
    const all = names.flatMap((n) => about.get(n) || []);
    return all.some((f) => f.severity === 'error') ? 'bad' : all.length ? 'weak' : 'good';
  };
  const offers = new Map(); // service → workloads
  const workloads = new Map();
  for (const s of st.sidecars) {
    const id = workload(s.node);
    if (!workloads.has(id)) workloads.set(id, { id, tasks: [], services: new Set() });
    const w = workloads.get(id);
    w.tasks.push(s);
    for (const p of s.ports) {
      w.services.add(p.service);
      offers.set(p.service, (offers.get(p.service) || new Set()).add(id));
    }
  }
  for (const s of st.services) {
    if (!offers.has(s.name)) {
      workloads.set(s.name, { id: s.name, tasks: [], services: new Set([s.name]), alone: true });
      offers.set(s.name, new Set([s.name]));
    }
  }
  for (const w of workloads.values()) w.state = state(w.id, ...w.tasks.map((t) => t.node), ...w.services);
  const edges = [];
  for (const e of view.traffic.edges) {
    for (const to of offers.get(e.service) || []) edges.push({ ...e, from: e.workload, to });
  }
  for (const w of workloads.values()) {
    w.sync = sync(w.tasks);
    const into = edges.filter((e) => e.to === w.id);
    w.traffic = total(into.length ? into : edges.filter((e) => e.from === w.id));
    if (w.state === 'good' && w.traffic.errors > 0.01 * w.traffic.rate) w.state = 'weak';
  }
  const match = (...texts) => !query || texts.some((t) => t && t.toLowerCase().includes(query));
  return {
    view, now: st.at, state, about, edges, offers, query,
    workloads: [...workloads.values()],
    services: st.services.filter((s) => match(s.name, ...s.aliases.map((a) => a.dnsName))),
    sidecars: st.sidecars.filter((s) => match(s.node, s.address, s.zone, ...s.ports.map((p) => p.service))),
    findings: view.findings.filter((f) => match(f.code, f.subject, f.title, f.cause)),
    events: view.events.filter((e) => match(e.subject, e.text)),
    matches: (w) => match(w.id, ...w.services, ...w.tasks.map((t) => t.node)),
  };
}

// sync is how far the Envoys of some tasks are, in a word.
export function sync(tasks) {
  const types = tasks.flatMap((t) => (t.stream ? t.stream.types.map((x) => x.state) : ['not connected']));
  return ['rejected', 'not connected', 'stale', 'waiting'].find((s) => types.includes(s)) || (types.length ? 'synced' : 'no task');
}

// total adds up edges.
export function total(edges) {
  const sum = (k) => edges.reduce((n, e) => n + (e[k] || 0), 0);
  return {
    edges, rate: sum('requestRate'), errors: sum('errorRate'), p50: Math.max(0, ...edges.map((e) => e.p50Ms || 0)), p99: Math.max(0, ...edges.map((e) => e.p99Ms || 0)),
    encrypted: sum('tls13'), other: sum('plain') + sum('tlsOlder'), open: sum('undeclared'), failed: sum('failed'), unverified: sum('unverified'),
  };
}

// calls is the traffic to a service, over all callers.
export const calls = (m, service) => total(m.view.traffic.edges.filter((e) => e.service === service));

// said tells a screen reader about a workload.
export function said(w) {
  const t = w.traffic;
  $('said').textContent = `${w.id}: ${{ good: 'well', weak: 'warning', bad: 'finding' }[w.state]}, ${w.tasks.length} tasks ${w.sync}, ${rate(t.rate)} requests per second, ${percent(t.errors, t.rate)} failed, p99 ${ms(t.p99)}`;
}
