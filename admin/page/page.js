// The page: takes each view of the mesh as it comes and shows it. The parts:
// stream.js gets the views, graph.js draws the map, tables.js the lists,
// detail.js what was chosen.
import { stream } from './stream.js';
import { Graph } from './graph.js';
import { services, sidecars, findings, events } from './tables.js';
import { Detail } from './detail.js';
import { $, model } from './model.js';

const views = ['map', 'services', 'sidecars', 'findings', 'events'];
const page = { view: null, chosen: null, query: '' };
const graph = new Graph($('graph'), choose);
const detail = new Detail($('detail'), choose);

function choose(kind, name) {
  page.chosen = { kind, name };
  draw();
  graph.select(name);
}

function draw() {
  if (!page.view) return;
  const m = model(page.view, page.query);
  const st = page.view.status;
  const bad = page.view.findings.length;
  const text = `${st.replica}: ${st.ready ? 'ready' : 'not ready: ' + st.reasons.join('; ')}; ${st.sidecars.length} sidecars, ${st.services.length} services, ${bad ? bad + ' findings' : 'nothing is wrong'}`;
  if ($('state').textContent !== text) $('state').textContent = text;
  $('state').className = bad || !st.ready ? 'bad' : 'good';
  graph.update(m);
  keepFocus(() => {
    services($('services'), m, choose);
    sidecars($('sidecars'), m, choose);
    findings($('findings'), m, choose);
    events($('events'), m);
  });
  const counts = { services: m.services.length, sidecars: m.sidecars.length, findings: m.findings.length, events: m.events.length };
  for (const [id, n] of Object.entries(counts)) $('tab-' + id).querySelector('.n').textContent = n;
  detail.update(m, page.chosen);
}

// keepFocus redraws without taking the keyboard away from what it is on.
function keepFocus(redraw) {
  const key = document.activeElement?.dataset?.key;
  redraw();
  if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function show(id) {
  for (const v of views) {
    const on = v === id;
    $(v).hidden = !on;
    $('tab-' + v).setAttribute('aria-selected', on);
    $('tab-' + v).tabIndex = on ? 0 : -1;
  }
  if (id === 'map') graph.resize();
}

$('tabs').addEventListener('click', (e) => {
  const tab = e.target.closest('[role=tab]');
  if (tab) show(tab.getAttribute('aria-controls'));
});
$('tabs').addEventListener('keydown', (e) => {
  const at = views.findIndex((v) => $('tab-' + v) === document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: views.length - 1 }[e.key];
  if (to === undefined || at < 0) return;
  e.preventDefault();
  const next = views[(to + views.length) % views.length];
  show(next);
  $('tab-' + next).focus();
});
$('search').addEventListener('input', () => {
  page.query = $('search').value.trim().toLowerCase();
  draw();
});
document.addEventListener('keydown', (e) => {
  if (e.key === '/' && !/INPUT/.test(document.activeElement.tagName)) {
    e.preventDefault();
    $('search').focus();
  }
  if (e.key === 'Escape' && document.activeElement === $('search')) {
    $('search').value = page.query = '';
    draw();
  }
});

function theme(dark) {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  $('theme').textContent = dark ? 'Light' : 'Dark';
  graph.restyle();
  detail.restyle();
}
$('theme').addEventListener('click', () => theme(document.documentElement.dataset.theme !== 'dark'));
theme(matchMedia('(prefers-color-scheme: dark)').matches);

stream({
  view(v) {
    page.view = v;
    detail.remember(v);
    draw();
  },
  state(text) {
    $('state').textContent = text;
    $('state').className = 'weak';
  },
  ask(again) {
    $('ask').hidden = false;
    $('token').focus();
    $('ask').onsubmit = (e) => {
      e.preventDefault();
      $('ask').hidden = true;
      again($('token').value.trim());
    };
  },
});
