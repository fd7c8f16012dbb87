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
export const percent = (part, all) => (all ? ((100 * part) / all).toFixed(part && part < all ? 1 : 0) + ' %' : '–');
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

// calls is the traffic to a service, over all callers.
export function calls(m, service) {
  const all = m.view.traffic.edges.filter((e) => e.service === service);
  const sum = (k) => all.reduce((n, e) => n + (e[k] || 0), 0);
  const encrypted = sum('tls13'), other = sum('plain') + sum('tlsOlder');
  return { edges: all, rate: sum('requestRate'), errors: sum('errorRate'), p99: Math.max(0, ...all.map((e) => e.p99Ms || 0)), encrypted, other, failed: sum('failed') };
}
