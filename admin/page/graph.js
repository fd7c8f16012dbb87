// The map: workloads and who calls whom, from left to right. dagre says where
// things are, and only when a workload or a call comes or goes, so that nothing
// moves under the pointer; cytoscape draws.
import { rate, percent, ms, said } from './model.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const font = 12;

// least is the scale below which nothing can be read.
const least = 8.6 / font;

// How much a node says depends on how many there are.
const sizes = [
  { most: 12, height: 60, lines: 3, between: 22, ranks: 110 },
  { most: 48, height: 36, lines: 2, between: 8, ranks: 28 },
  { most: Infinity, height: 18, lines: 1, between: 4, ranks: 40 },
];

export class Graph {
  constructor(host, choose) {
    this.host = host;
    this.choose = choose;
    this.known = '';
    this.cy = cytoscape({ container: host, elements: [], minZoom: 0.1, maxZoom: 3, style: [], boxSelectionEnabled: false, autoungrabify: true });
    this.cy.on('tap', 'node', (e) => choose('workload', e.target.id()));
    this.cy.on('tap', 'edge', (e) => choose('service', e.target.data('service')));
    this.cy.on('tap', (e) => e.target === this.cy && this.mark(null));
    host.cytoscape = this.cy; // for tests
    host.addEventListener('keydown', (e) => this.key(e));
    new ResizeObserver(() => this.resize()).observe(host);
    this.restyle();
  }

  restyle() {
    const state = (s, extra) => ({ selector: `node[state = "${s}"]`, style: { 'border-color': css(s), ...extra } });
    const line = (kind, color, extra) => ({ selector: `edge[kind = "${kind}"]`, style: { 'line-color': css(color), 'target-arrow-color': css(color), ...extra } });
    this.cy?.style([
      { selector: 'node', style: { shape: 'round-rectangle', label: 'data(label)', color: css('ink'), 'font-family': 'system-ui, sans-serif', 'font-size': font, 'text-wrap': 'wrap', 'text-valign': 'center', 'line-height': 1.25, 'background-color': css('panel'), 'border-width': 1.5, width: 'data(width)', height: 'data(height)' } },
      state('good', {}), state('weak', { 'border-width': 3, 'border-style': 'dashed' }), state('bad', { 'border-width': 4, 'border-style': 'double', 'background-color': css('badbg') }),
      { selector: 'node[?alone]', style: { 'border-style': 'dotted', color: css('dim') } },
      { selector: 'edge', style: { width: 'data(width)', 'target-arrow-shape': 'triangle', 'arrow-scale': 0.9, 'curve-style': 'bezier', color: css('ink'), 'font-size': 11, 'font-family': 'system-ui, sans-serif', label: 'data(label)', 'text-background-color': css('bg'), 'text-background-opacity': 0.9, 'text-background-padding': 2 } },
      line('tls', 'tls', {}), line('open', 'dim', { 'line-style': 'dashed' }), line('plain', 'plain', { 'line-style': 'dashed' }), line('idle', 'idle', { opacity: 0.6 }),
      { selector: 'edge[?failing]', style: { color: css('bad'), 'font-weight': 'bold', 'line-color': css('bad'), 'target-arrow-color': css('bad') } },
      { selector: '.faded', style: { opacity: 0.13 } },
      { selector: 'edge.near', style: { label: 'data(full)', 'z-index': 5 } },
      { selector: 'node.chosen', style: { 'border-width': 4, 'border-color': css('accent'), 'border-style': 'solid' } },
    ]);
  }

  resize() {
    if (!this.host.clientWidth) return;
    this.cy.resize();
    this.fit();
  }

  // fit shows all, but never smaller than can be read: then a part of it.
  fit() {
    if (!this.cy.nodes().length) return;
    this.cy.fit(undefined, 16);
    if (this.cy.zoom() > 1.4) this.cy.zoom(1.4);
    if (this.cy.zoom() < least) {
      this.cy.zoom(least);
      const box = this.cy.elements().boundingBox();
      this.cy.pan({ x: 24 - box.x1 * least, y: Math.max(24 - box.y1 * least, (this.cy.height() - box.h * least) / 2 - box.y1 * least) });
    } else this.cy.center();
  }

  zoom(by) {
    this.cy.zoom({ level: this.cy.zoom() * by, renderedPosition: { x: this.cy.width() / 2, y: this.cy.height() / 2 } });
  }

  // mark shows what a workload has to do with, or everything.
  mark(id) {
    const node = id ? this.cy.getElementById(id) : this.cy.collection();
    this.marked = node.length ? id : null;
    this.cy.batch(() => {
      this.cy.elements().removeClass('chosen near faded');
      if (!node.length) return this.fade();
      const near = node.closedNeighborhood();
      this.cy.elements().difference(near).addClass('faded');
      near.edges().addClass('near');
      node.addClass('chosen');
    });
    if (node.length) this.reveal(node);
  }

  reveal(node) {
    const b = node.renderedBoundingBox();
    if (b.x1 < 0 || b.y1 < 0 || b.x2 > this.cy.width() || b.y2 > this.cy.height()) this.cy.center(node);
  }

  fade() {
    if (!this.last) return;
    for (const w of this.last.workloads) this.cy.getElementById(w.id).toggleClass('faded', !this.last.matches(w));
    if (this.last.query) for (const e of this.cy.edges()) e.toggleClass('faded', e.source().hasClass('faded') && e.target().hasClass('faded'));
  }

  // key walks over the map: along a call, or to the next above or below.
  key(e) {
    const steps = { ArrowRight: 'out', ArrowLeft: 'in', ArrowDown: 1, ArrowUp: -1 };
    if (e.key === 'Escape') this.mark(null);
    else if (e.key === '+' || e.key === '=') this.zoom(1.25);
    else if (e.key === '-') this.zoom(0.8);
    else if (e.key === '0') this.fit();
    else if (e.key === 'Enter' && this.marked) document.getElementById('detail').focus();
    else if (steps[e.key] !== undefined) this.step(steps[e.key]);
    else return;
    e.preventDefault();
  }

  step(way) {
    const at = this.cy.getElementById(this.marked || '');
    const order = (nodes) => nodes.sort((a, b) => a.position('y') - b.position('y') || a.position('x') - b.position('x'));
    let to;
    if (!at.length) to = order(this.cy.nodes().sort((a, b) => a.position('x') - b.position('x')).slice(0, 1))[0];
    else if (way === 'out') to = order(at.outgoers('node'))[0];
    else if (way === 'in') to = order(at.incomers('node'))[0];
    else {
      const column = order(this.cy.nodes().filter((n) => Math.abs(n.position('x') - at.position('x')) < 60));
      const i = column.toArray().findIndex((n) => n.same(at));
      to = column[(i + way + column.length) % column.length];
    }
    if (!to) return;
    this.choose('workload', to.id());
    said(this.last.workloads.find((w) => w.id === to.id()));
  }

  update(m) {
    this.last = m;
    const known = m.workloads.map((w) => w.id).sort().join() + '|' + m.edges.map((e) => `${e.from}→${e.to} ${e.service}`).sort().join();
    const moved = known !== this.known && this.host.clientWidth > 0;
    let positions;
    if (moved) {
      this.known = known;
      // As much as can be read at once.
      for (this.size of sizes.filter((s) => m.workloads.length <= s.most)) {
        const all = elements(m, this.size);
        const laid = layout(all.nodes, all.edges, this.size);
        positions = laid.at;
        if (Math.min(this.host.clientWidth / (laid.width + 48), this.host.clientHeight / (laid.height + 48)) >= least) break;
      }
    }
    if (!this.size) return;
    const { nodes, edges } = elements(m, this.size);
    this.cy.batch(() => {
      const ids = new Set([...nodes, ...edges].map((e) => e.data.id));
      this.cy.elements().filter((e) => !ids.has(e.id())).remove();
      for (const e of [...nodes, ...edges]) {
        const old = this.cy.getElementById(e.data.id);
        if (!old.length) this.cy.add(e);
        else if (JSON.stringify(old.data()) !== JSON.stringify(e.data)) old.data(e.data);
      }
      if (!this.marked) this.fade();
    });
    if (moved) {
      this.cy.layout({ name: 'preset', positions: (n) => positions[n.id()], fit: false }).run();
      this.fit();
      this.mark(this.marked);
    }
  }
}

// elements are what is drawn, in one size.
function elements(m, size) {
  const nodes = m.workloads.map((w) => {
    const label = words(w, size.lines);
    const width = 16 + 6.6 * Math.max(...label.map((l) => l.length));
    return { group: 'nodes', data: { id: w.id, state: w.state, alone: w.alone || false, label: label.join('\n'), width: Math.max(size.lines > 1 ? 108 : 48, Math.ceil(width / 12) * 12), height: size.height } };
  });
  const there = new Set(m.workloads.map((w) => w.id));
  const edges = m.edges.filter((e) => there.has(e.from) && there.has(e.to)).map((e) => ({ group: 'edges', data: edge(e, size.lines) }));
  return { nodes, edges };
}

// layout places nodes: callers left of what they call.
function layout(nodes, edges, size) {
  const g = new dagre.graphlib.Graph();
  g.setGraph({ rankdir: 'LR', nodesep: size.between, ranksep: size.ranks, edgesep: 2, ranker: 'network-simplex' });
  g.setDefaultEdgeLabel(() => ({}));
  const called = new Set(edges.flatMap((e) => [e.data.source, e.data.target]));
  const quiet = nodes.filter((n) => !called.has(n.data.id));
  for (const n of nodes) if (called.has(n.data.id)) g.setNode(n.data.id, { width: n.data.width, height: n.data.height });
  for (const e of edges) g.setEdge(e.data.source, e.data.target);
  if (called.size) dagre.layout(g);
  const at = {};
  let below = 0;
  for (const id of called) {
    at[id] = { x: g.node(id).x, y: g.node(id).y };
    below = Math.max(below, g.node(id).y + size.height);
  }
  // What nobody calls, and calls nobody, stands below in rows.
  const columns = Math.max(1, Math.ceil(Math.sqrt((quiet.length * size.height) / 45)));
  const wide = Math.max(0, ...quiet.map((n) => n.data.width)) + 24;
  quiet.forEach((n, i) => { at[n.data.id] = { x: wide / 2 + (i % columns) * wide, y: below + size.height + Math.floor(i / columns) * (size.height + 14) }; });
  const rows = Math.ceil(quiet.length / columns) * (size.height + 14);
  return { at, width: Math.max(called.size ? g.graph().width : 0, quiet.length ? columns * wide : 0), height: below + (rows ? rows + size.height : 0) };
}

// words are the lines of a node.
function words(w, lines) {
  const out = [w.id.slice(w.id.indexOf('/') + 1)];
  const t = w.traffic;
  const failing = t.errors > 0.005 ? percent(t.errors, t.rate) + ' failed' : '';
  if (lines > 1) out.push(w.alone ? 'no task' : t.rate < 0.005 && !t.p99 ? 'no requests' : [rate(t.rate) + '/s', failing, t.p99 && ms(t.p99)].filter(Boolean).join(' · '));
  if (lines > 2 && !w.alone) out.push([w.tasks.length + (w.tasks.length === 1 ? ' task' : ' tasks'), w.sync].join(' · '));
  if (lines === 1 && failing) out[0] += ' · ' + failing;
  return out;
}

function edge(e, lines) {
  const failing = e.errorRate > 0.005;
  const parts = [rate(e.requestRate) + '/s', failing && percent(e.errorRate, e.requestRate) + ' failed', e.p99Ms && ms(e.p99Ms)].filter(Boolean);
  const full = e.requestRate < 0.005 ? '' : parts.join(' · ');
  return {
    id: `${e.from}→${e.to} ${e.service}`, source: e.from, target: e.to, service: e.service, failing, full,
    width: 0.8 + Math.min(lines > 2 ? 4 : 2.4, (lines > 2 ? 0.6 : 0.3) * Math.log2(1 + e.requestRate)),
    kind: e.plain || e.tlsOlder ? 'plain' : e.tls13 ? 'tls' : e.undeclared ? 'open' : 'idle',
    label: lines === 3 ? full : '',
  };
}
