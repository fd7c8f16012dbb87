// The page: takes each view of the mesh as it comes and shows it. The parts:
// stream.js gets the views, graph.js draws the map, tables.js the lists,
// detail.js what was chosen. What is shown stands in the address, so that it can
// be sent to others: #/VIEW/KIND/NAME.
import { ask, stream } from './stream.js';
import { Graph } from './graph.js';
import { Tables } from './tables.js';
import { Detail } from './detail.js';
import { $, model } from './model.js';

const views = ['map', 'services', 'sidecars', 'findings', 'events'];
const page = { view: null, seen: 'map', chosen: null, query: '' };
const graph = new Graph($('graph'), choose);
const tables = new Tables($, choose);
const detail = new Detail($('detail'), choose, ask);

function choose(kind, name) {
  page.chosen = kind ? { kind, name } : null;
  address();
  draw();
  graph.mark(kind === 'workload' ? name : kind === 'sidecar' ? name.slice(0, name.lastIndexOf('/')) : kind === 'service' ? [...(page.model?.offers.get(name) || [])][0] : null);
}

function address() {
  const c = page.chosen;
  history.replaceState(null, '', '#/' + page.seen + (c ? `/${c.kind}/${encodeURIComponent(c.name)}` : ''));
}

function fromAddress() {
  const [, seen, kind, name] = location.hash.split('/');
  page.chosen = name ? { kind, name: decodeURIComponent(name) } : null;
  show(views.includes(seen) ? seen : 'map');
}

function draw() {
  if (!page.view) return;
  const m = model(page.view, page.query);
  page.model = m;
  const st = page.view.status;
  const bad = page.view.findings.length;
  say(`${st.replica}: ${st.ready ? 'ready' : 'not ready: ' + st.reasons.join('; ')}; ${st.sidecars.length} sidecars, ${st.services.length} services, ${bad ? (bad === 1 ? '1 finding' : bad + ' findings') : 'nothing is wrong'}`, bad || !st.ready ? 'bad' : 'good');
  document.title = (bad ? `(${bad}) ` : '') + 'patchbay';
  document.body.dataset.drawn = st.at; // for tests
  if (page.seen === 'map') graph.update(m);
  tables.update(m, page.seen);
  const counts = { services: m.services.length, sidecars: m.sidecars.length, findings: m.findings.length, events: m.events.length };
  for (const [id, n] of Object.entries(counts)) {
    const at = $('tab-' + id).querySelector('.n');
    if (at.textContent !== String(n)) at.textContent = n;
  }
  $('tab-findings').classList.toggle('some', bad > 0);
  detail.update(m, page.chosen);
}

function say(text, kind) {
  if ($('state').textContent !== text) $('state').textContent = text;
  $('state').className = kind;
}

function show(id) {
  page.seen = id;
  for (const v of views) {
    const on = v === id;
    $(v).hidden = !on;
    $('tab-' + v).setAttribute('aria-selected', on);
    $('tab-' + v).tabIndex = on ? 0 : -1;
  }
  address();
  draw();
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
  graph.mark(null);
  draw();
});
$('search').addEventListener('keydown', (e) => {
  // Enter opens what is found first.
  const w = e.key === 'Enter' && page.query && page.model?.workloads.find(page.model.matches);
  if (w) choose('workload', w.id);
});
document.addEventListener('keydown', (e) => {
  const typing = /INPUT/.test(document.activeElement.tagName);
  if (e.key === '/' && !typing) {
    e.preventDefault();
    $('search').focus();
  }
  if (e.key === 'Escape' && document.activeElement === $('search')) {
    $('search').value = page.query = '';
    draw();
  } else if (e.key === 'Escape' && !typing && page.chosen) choose(null);
});
for (const [id, act] of Object.entries({ closer: () => graph.zoom(1.3), farther: () => graph.zoom(1 / 1.3), whole: () => graph.fit() })) $(id).addEventListener('click', act);

function theme(dark) {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  $('theme').textContent = dark ? 'Light' : 'Dark';
  graph.restyle();
  detail.restyle();
  draw();
}
const liked = matchMedia('(prefers-color-scheme: dark)');
$('theme').addEventListener('click', () => {
  const dark = document.documentElement.dataset.theme !== 'dark';
  localStorage.setItem('patchbay-theme', dark ? 'dark' : 'light');
  theme(dark);
});
liked.addEventListener('change', () => localStorage.getItem('patchbay-theme') || theme(liked.matches));
theme(localStorage.getItem('patchbay-theme') ? localStorage.getItem('patchbay-theme') === 'dark' : liked.matches);
addEventListener('hashchange', fromAddress);
fromAddress();

stream({
  view(v) {
    const first = !page.view;
    page.view = v;
    detail.remember(v);
    draw();
    if (first && page.chosen) choose(page.chosen.kind, page.chosen.name);
  },
  state: (text) => say(text, 'weak'),
  ask(again, refused) {
    $('ask').hidden = false;
    $('refused').hidden = !refused;
    say('A token is needed', 'weak');
    $('token').focus();
    $('ask').onsubmit = (e) => {
      e.preventDefault();
      $('ask').hidden = true;
      again($('token').value.trim());
      $('token').value = '';
    };
  },
});
