// The map: workloads and who calls whom. Cytoscape lays it out anew only when
// a workload comes or goes, so that nothing moves under the pointer.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

export class Graph {
  constructor(host, choose) {
    this.known = '';
    this.cy = cytoscape({ container: host, elements: [], wheelSensitivity: 0.3, minZoom: 0.15, maxZoom: 2.5, style: [] });
    this.cy.on('tap', 'node', (e) => choose('workload', e.target.id()));
    this.cy.on('tap', 'edge', (e) => choose('service', e.target.data('service')));
    host.cytoscape = this.cy; // for tests
    this.restyle();
  }

  restyle() {
    this.cy?.style([
      { selector: 'node', style: { label: 'data(label)', color: css('ink'), 'font-size': 12, 'text-wrap': 'wrap', 'text-valign': 'bottom', 'text-margin-y': 5, 'background-color': css('panel'), 'border-width': 4, 'border-color': css('good'), width: 'data(size)', height: 'data(size)', 'text-background-color': css('bg'), 'text-background-opacity': 0.85, 'text-background-padding': 2 } },
      { selector: 'node[state = "weak"]', style: { 'border-color': css('weak'), 'border-style': 'dashed' } },
      { selector: 'node[state = "bad"]', style: { 'border-color': css('bad'), 'border-style': 'double', 'border-width': 7 } },
      { selector: 'node[?alone]', style: { shape: 'round-rectangle' } },
      { selector: 'node:selected', style: { 'background-color': css('accent') } },
      { selector: '.faded', style: { opacity: 0.2 } },
      { selector: 'edge', style: { width: 'data(width)', 'line-color': css('idle'), 'target-arrow-color': css('idle'), 'target-arrow-shape': 'triangle', 'curve-style': 'bezier', 'arrow-scale': 1.1, color: css('dim'), 'font-size': 10, label: 'data(label)', 'text-background-color': css('bg'), 'text-background-opacity': 0.85 } },
      { selector: 'edge[kind = "tls"]', style: { 'line-color': css('tls'), 'target-arrow-color': css('tls') } },
      { selector: 'edge[kind = "open"]', style: { 'line-color': css('dim'), 'target-arrow-color': css('dim'), 'line-style': 'dashed' } },
      { selector: 'edge[kind = "plain"]', style: { 'line-color': css('plain'), 'target-arrow-color': css('plain'), 'line-style': 'dashed' } },
    ]);
  }

  resize() {
    this.cy.resize();
    this.cy.fit(undefined, 40);
  }

  select(name) {
    this.cy.elements().unselect();
    this.cy.getElementById(name).select();
  }

  update(m) {
    const many = m.workloads.length > 40;
    const nodes = m.workloads.map((w) => ({
      group: 'nodes', data: {
        id: w.id, state: w.state, alone: w.alone || false, size: 26 + 5 * Math.min(w.tasks.length, 6),
        label: w.id.slice(w.id.indexOf('/') + 1) + (many ? '' : `\n${w.alone ? 'no task' : w.tasks.length + (w.tasks.length === 1 ? ' task' : ' tasks')}`),
      },
    }));
    const edges = m.edges.map((e) => ({
      group: 'edges', data: {
        id: `${e.from}→${e.to} ${e.service}`, source: e.from, target: e.to, service: e.service, width: 1.5 + Math.min(6, Math.log2(1 + e.requestRate)),
        kind: e.plain || e.tlsOlder ? 'plain' : e.tls13 ? 'tls' : e.undeclared ? 'open' : 'idle',
        label: many || !e.requestRate ? '' : `${e.requestRate.toFixed(0)}/s${e.errorRate > 0.005 ? ` ${((100 * e.errorRate) / e.requestRate).toFixed(0)} % failed` : ''}`,
      },
    })).filter((e) => m.workloads.some((w) => w.id === e.data.source));
    const known = nodes.map((n) => n.data.id).sort().join() + '|' + edges.map((e) => e.data.id).sort().join();
    this.cy.batch(() => {
      const ids = new Set([...nodes, ...edges].map((e) => e.data.id));
      this.cy.elements().filter((e) => !ids.has(e.id())).remove();
      for (const e of [...nodes, ...edges]) {
        const old = this.cy.getElementById(e.data.id);
        if (old.length) old.data(e.data);
        else this.cy.add(e);
      }
      for (const w of m.workloads) this.cy.getElementById(w.id).toggleClass('faded', !m.matches(w));
    });
    if (known !== this.known) {
      this.known = known;
      this.layout(nodes.length, edges.length);
    }
  }

  layout(nodes, edges) {
    const options = edges === 0
      ? { name: 'grid', avoidOverlapPadding: 30 }
      : nodes <= 20
        ? { name: 'breadthfirst', directed: true, spacingFactor: 1.4, avoidOverlap: true }
        : { name: 'cose', randomize: false, nodeRepulsion: 90000, idealEdgeLength: 90, nodeOverlap: 20, gravity: 0.6, numIter: 1200, componentSpacing: 80, nodeDimensionsIncludeLabels: true };
    if (nodes > 20) this.cy.layout({ name: 'circle', animate: false }).run(); // the same start each time
    this.cy.layout({ ...options, animate: false, fit: true, padding: 40 }).run();
  }
}
