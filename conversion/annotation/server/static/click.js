// Clicking: add objects at any frame, put points on and off them, see masks at once and masklets after a key press.
import { $, api, button, colour, COLOURS, drawCross, drawPoint, element, frame, maskImage, onKeys, prefetch, say, signIn, titleOf, told } from './common.js';
import { drawStrips } from './strips.js';
import { Narrative } from './narrative.js';

const state = { clips: [], clip: null, at: 0, object: null, masks: {}, cross: null, playing: null, hidden: false, holder: null, job: null };
const size = () => state.clip.size;
const objects = () => state.clip.objects;
const selected = () => objects().find((o) => o.object === state.object);
const indexOf = (key) => objects().findIndex((o) => o.object === key);

function layout() {
  const key = (text, name, action, id, title = '') => button(text, name, action, { id, title });
  $('#main').append(
    element('div', { className: 'row', style: 'margin-bottom:.7rem' },
      element('label', {}, 'Clip ', element('select', { id: 'clips' })),
      key('Previous', 'PgUp', () => otherClip(-1), 'clip-before'), key('Next', 'PgDn', () => otherClip(1), 'clip-after'),
      element('span', { className: 'soft grow', id: 'held' })),
    element('div', { className: 'click', id: 'work', hidden: true },
      element('section', {},
        element('div', { className: 'stage' }, element('canvas', { id: 'picture' }), element('canvas', { id: 'over', tabIndex: 0, ariaLabel: 'The frame' })),
        element('div', { className: 'scrub' }, key('Play', 'Space', play, 'play'),
          element('input', { type: 'range', id: 'frames', min: 0, value: 0, ariaLabel: 'Frame' }), element('output', { id: 'place' })),
        element('div', { className: 'row carry' }, key('Carry through the clip', 'G', go, 'go', 'Make masks of all frames'),
          element('div', { className: 'grow' }, element('progress', { id: 'bar', hidden: true }), element('span', { className: 'soft', id: 'job' }))),
        element('div', { className: 'strip', id: 'strips' }),
        element('p', { className: 'legend' }, 'Strips: height and strength are how sure the masklet is; green and red marks are points on and off; grey is absent.'),
        element('p', { className: 'hint' }, 'Click: on the object. Right click, or Shift and click: off it. With keys: ',
          ...['W', 'A', 'S', 'D'].map((k) => element('kbd', {}, k)), ' move the cross (with Shift by one pixel), ', element('kbd', {}, '←'), element('kbd', {}, '→'),
          ' frames (with Shift by ten), ', element('kbd', {}, '1'), '…', element('kbd', {}, '9'), ' choose an object.')),
      element('aside', {},
        element('div', { className: 'panel' }, element('h3', {}, 'Narrative'), element('div', { id: 'narrative' })),
        element('div', { className: 'panel' }, element('h3', {}, 'Objects'), element('ul', { className: 'objects', id: 'objects' }),
          element('div', { className: 'keys' },
            key('New object', 'O', newObject, 'new'), key('Point on it', 'P', () => clickAtCross(1), 'positive'),
            key('Point off it', 'N', () => clickAtCross(0), 'negative'), key('Undo point', 'U', undo, 'undo'),
            key('Absent here', 'X', absent, 'absent', 'The object is not in this frame'), key('Hide masks', 'V', hide, 'hide'),
            key('Rename', 'R', rename, 'rename'), key('Remove', 'Del', remove, 'remove'))))));
  $('#go').className = 'main';
  $('#clips').addEventListener('change', (event) => openClip(Number(event.target.value)));
  $('#frames').addEventListener('input', (event) => seek(Number(event.target.value)));
  const over = $('#over');
  over.addEventListener('pointerdown', (event) => {
    if (event.button === 1) return;
    event.preventDefault();
    over.focus({ preventScroll: true });
    addPoint(...positionOf(event), event.button === 2 || event.shiftKey ? 0 : 1);
  });
  over.addEventListener('contextmenu', (event) => event.preventDefault());
}

const narrative = new Narrative({
  mark: (position, start, end, object) => change(`nouns`, { position, start, end, object }, true),
  write: (position, text) => change(`narratives/${position}`, { text }),
  select: (id) => { const own = objects().find((o) => o.object_id === id); if (own) select(own.object); },
  objects: () => objects().map((o, i) => ({ ...o, colour: colour(i) })),
});

// Send a change of the clip; the answer is its new state.
async function change(path, body, choose = false) {
  const answer = await told(() => api(`/api/clips/${state.clip.clip}/${path}`, body));
  if (!answer) return null;
  take(answer);
  if (choose && answer.object) select(answer.object);
  return answer;
}

function take(clip) {
  state.clip = clip;
  if (clip.holder !== undefined) state.holder = clip.holder;
  if (indexOf(state.object) < 0) state.object = objects()[0]?.object ?? null;
  render();
}

async function reload() {
  const answer = await told(() => api(`/api/clips/${state.clip.clip}`));
  if (answer) take(answer);
}

async function openClip(clip, place = {}) {
  stopPlaying();
  const row = state.clips.find((c) => c.clip === clip);
  $('#clips').value = clip;
  if (row.reason) {
    $('#work').hidden = true;
    state.clip = null;
    say(`${row.video_id} cannot be opened: ${row.reason}`);
    return;
  }
  const answer = await told(() => api(`/api/clips/${clip}/open`, {}));
  if (!answer) { $('#work').hidden = true; return; }
  Object.assign(state, { at: Math.min(place.frame ?? 0, answer.frames - 1), object: place.object ?? null, masks: {}, cross: null, job: null });
  $('#frames').max = answer.frames - 1;
  $('#work').hidden = false;
  $('#held').textContent = answer.holder ? `${answer.holder} is working on this clip: you can look, not change.` : '';
  take(answer);
  await seek(state.at);
  watchJob();
}

function otherClip(step) {
  const i = state.clips.findIndex((c) => c.clip === Number($('#clips').value)) + step;
  if (state.clips[i]) openClip(state.clips[i].clip);
}

function render() {
  const list = $('#objects');
  list.replaceChildren(...objects().map((o, i) => {
    const positives = o.points.filter((p) => p[4] === 1).length;
    const swatch = element('i');
    swatch.style.background = colour(i);
    const row = element('li', {}, swatch, button(titleOf(o), i < 9 ? String(i + 1) : '', () => select(o.object), { className: 'pick', title: o.object_id }),
      element('small', {}, `${positives} on, ${o.points.length - positives} off`));
    row.setAttribute('aria-current', o.object === state.object);
    return row;
  }));
  if (!objects().length) list.append(element('li', { className: 'soft' }, 'None yet. Mark a noun, or make a new object, then click on it.'));
  const own = selected();
  for (const id of ['positive', 'negative', 'absent', 'rename', 'remove', 'undo']) $(`#${id}`).disabled = !own;
  $('#absent').setAttribute('aria-pressed', Boolean(own?.absent.includes(state.at)));
  $('#absent span').textContent = own?.absent.includes(state.at) ? 'Not absent' : 'Absent here';
  narrative.render($('#narrative'), state.clip.narratives);
  drawStrips($('#strips'), state.clip, state.at, state.object, (t, key) => { select(key); seek(t); });
  $('#objects li[aria-current=true]')?.scrollIntoView({ block: 'nearest' });
  draw();
}

function select(key) {
  state.object = key;
  render();
  savePlace();
}

let seeking = 0;
async function seek(t) {
  const { clip } = state;
  const at = Math.max(0, Math.min(clip.frames - 1, t));
  state.at = at;
  state.masks = {};
  $('#frames').value = at;
  $('#place').textContent = `${at + 1} of ${clip.frames} (${clip.names[at]})`;
  seeking += 1;
  const mine = seeking;
  const bitmap = await told(() => frame(clip.clip, at));
  if (mine !== seeking || !bitmap) return;
  state.bitmap = bitmap;
  render();
  savePlace();
  prefetch([1, 2, 3, -1].map((d) => [clip.clip, at + d]).filter(([, i]) => i >= 0 && i < clip.frames), 1);
  if (state.playing) return;
  setTimeout(async () => {
    if (mine !== seeking) return;
    await fetchMasks();
    if (mine === seeking && !state.holder) api(`/api/clips/${clip.clip}/prepare/${at}`, {}).catch(() => {});
  }, 80);
}

async function fetchMasks() {
  const { clip, at } = state;
  const masks = await told(() => api(`/api/clips/${clip.clip}/masks/${at}`));
  if (!masks || state.clip?.clip !== clip.clip || state.at !== at) return;
  showMasks(masks);
}

function showMasks(masks) {
  const [height, width] = size();
  state.masks = {};
  for (const [key, runs] of Object.entries(masks)) {
    const i = indexOf(Number(key));
    if (i >= 0) state.masks[key] = maskImage(runs, width, height, COLOURS[i % COLOURS.length], Number(key) === state.object ? 0.5 : 0.3);
  }
  draw();
  $('#over').dataset.masks = Object.keys(masks).length;
}

function draw() {
  if (!state.bitmap) return;
  const [height, width] = size();
  const canvas = $('#picture');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.drawImage(state.bitmap, 0, 0, width, height);
  if (!state.hidden) for (const image of Object.values(state.masks)) context.drawImage(image, 0, 0);
  drawOver();
}

function drawOver() {
  const [height, width] = size();
  const over = $('#over');
  const ratio = Math.max(1, (over.clientWidth || width) * (window.devicePixelRatio || 1) / width);
  Object.assign(over, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  const context = over.getContext('2d');
  const radius = 7 * (window.devicePixelRatio || 1);
  objects().forEach((o, i) => {
    const own = o.object === state.object;
    for (const [, t, x, y, label] of o.points) {
      if (t === state.at) drawPoint(context, (x + 0.5) * ratio, (y + 0.5) * ratio, label, own ? radius : radius * 0.7, colour(i));
    }
    const box = o.boxes[state.at];
    if (box) {
      context.strokeStyle = colour(i);
      context.lineWidth = 2;
      context.strokeRect(box[0] * ratio, box[1] * ratio, (box[2] - box[0] + 1) * ratio, (box[3] - box[1] + 1) * ratio);
    }
  });
  if (state.cross) drawCross(context, (state.cross[0] + 0.5) * ratio, (state.cross[1] + 0.5) * ratio, radius * 1.4);
}

function positionOf(event) {
  const [height, width] = size();
  const box = $('#over').getBoundingClientRect();
  const inside = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value)));
  return [inside((event.clientX - box.left) / box.width * width, width), inside((event.clientY - box.top) / box.height * height, height)];
}

async function addPoint(x, y, label) {
  if (state.holder) return say(`${state.holder} is working on this clip: you can look, not change.`);
  if (!selected()) await newObject();
  const own = selected();
  if (!own) return undefined;
  stopPlaying();
  const { at } = state;
  const began = performance.now();
  const answer = await told(() => api(`/api/objects/${own.object}/clicks`, { frame: at, x, y, label }));
  if (!answer) return undefined;
  own.points.push([answer.click, at, x, y, label]);
  own.absent = own.absent.filter((t) => t !== at);
  render();
  await fetchMasks();
  $('#over').dataset.milliseconds = Math.round(performance.now() - began);
  return undefined;
}

function clickAtCross(label) {
  const [height, width] = size();
  if (!state.cross) {
    state.cross = [Math.floor(width / 2), Math.floor(height / 2)];
    drawOver();
    say('Here is the cross. Move it with W, A, S and D; then press again.', true);
    return;
  }
  addPoint(...state.cross, label);
}

function moveCross(dx, dy, fine) {
  const [height, width] = size();
  const step = fine ? 1 : Math.max(2, Math.round(height / 40));
  const [x, y] = state.cross ?? [Math.floor(width / 2), Math.floor(height / 2)];
  state.cross = [Math.max(0, Math.min(width - 1, x + dx * step)), Math.max(0, Math.min(height - 1, y + dy * step))];
  drawOver();
}

async function newObject() { await change('objects', { name: '' }, true); }

async function undo() {
  const own = selected();
  const last = own?.points.at(-1);
  if (!last) return;
  if (await told(() => api(`/api/clicks/${last[0]}/remove`, {}))) {
    own.points.pop();
    if (last[1] !== state.at) await seek(last[1]);
    render();
    await fetchMasks();
  }
}

async function absent() {
  const own = selected();
  if (!own) return;
  const there = own.absent.includes(state.at);
  if (await told(() => api(`/api/objects/${own.object}/absent`, { frame: state.at, absent: !there }))) {
    own.absent = there ? own.absent.filter((t) => t !== state.at) : [...own.absent, state.at];
    render();
    await fetchMasks();
  }
}

async function rename() {
  const own = selected();
  if (!own) return;
  const name = window.prompt(`Name of object ${own.object_id} (its id stays)`, own.name);
  if (name !== null && await told(() => api(`/api/objects/${own.object}`, { name }))) await reload();
}

async function remove() {
  const own = selected();
  if (!own || !window.confirm(`Remove ${own.name || 'object'} (${own.object_id}) with its ${own.points.length} points and its nouns?`)) return;
  if (await told(() => api(`/api/objects/${own.object}/remove`, {}))) { await reload(); await fetchMasks(); }
}

function hide() {
  state.hidden = !state.hidden;
  $('#hide span').textContent = state.hidden ? 'Show masks' : 'Hide masks';
  draw();
}

async function go() {
  if (state.job?.state === 'running' || state.job?.state === 'waiting') {
    await told(() => api(`/api/clips/${state.clip.clip}/masklets/stop`, {}));
    return;
  }
  if (await told(() => api(`/api/clips/${state.clip.clip}/masklets`, {}))) watchJob();
}

let watching = 0;
async function watchJob() {
  watching += 1;
  const mine = watching;
  const { clip } = state.clip;
  let before = -1;
  for (;;) {
    const job = await api(`/api/clips/${clip}/masklets`).catch(() => ({ state: 'none' }));
    if (mine !== watching || state.clip?.clip !== clip) return;
    state.job = job;
    const busy = job.state === 'running' || job.state === 'waiting';
    $('#bar').hidden = !busy;
    if (busy) Object.assign($('#bar'), { max: job.total, value: job.done });
    $('#go span').textContent = busy ? 'Stop' : 'Carry through the clip';
    $('#job').dataset.state = job.state;
    $('#job').textContent = { none: 'Masks of all frames, made of all points.', waiting: 'Waiting for another clip.', running: `${job.done} of ${job.total} frames.`,
      finished: `Done in ${job.seconds} s. Where it is wrong, add a point there and carry it again.`, failed: job.message, stopped: 'Stopped.' }[job.state];
    if (job.done !== before && job.state !== 'none') { await reload(); before = job.done; }
    if (!busy) {
      if (job.state === 'finished') await fetchMasks();
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, 700); });
  }
}

function stopPlaying() {
  clearTimeout(state.playing);
  state.playing = null;
  if ($('#play')) $('#play span').textContent = 'Play';
}

// Frames with their masklets, at the speed of the clip or as fast as they come.
async function play() {
  if (state.playing) { stopPlaying(); await seek(state.at); return; }
  $('#play span').textContent = 'Pause';
  const wait = 1000 / Math.min(30, state.clip.fps || 10);
  const step = async () => {
    if (!state.playing) return;
    const began = performance.now();
    const { clip } = state;
    const t = (state.at + 1) % clip.frames;
    const masks = await api(`/api/clips/${clip.clip}/masks/${t}`).catch(() => ({}));
    await frame(clip.clip, t).catch(() => null);
    if (!state.playing) return;
    await seek(t);
    showMasks(masks);
    if (state.playing) state.playing = setTimeout(step, Math.max(0, wait - (performance.now() - began)));
  };
  state.playing = setTimeout(step, 0);
}

let saving = null;
function savePlace() {
  clearTimeout(saving);
  const { clip, at, object } = { clip: state.clip.clip, at: state.at, object: state.object };
  saving = setTimeout(() => api(`/api/clips/${clip}/place`, { frame: at, object }).catch(() => {}), 250);
}

const KEYS = { o: newObject, p: () => clickAtCross(1), Enter: () => clickAtCross(1), n: () => clickAtCross(0), u: undo, x: absent, v: hide, g: go, r: rename,
  Delete: remove, ' ': play, t: () => narrative.edit(), PageUp: () => otherClip(-1), PageDown: () => otherClip(1) };
const CROSS = { w: [0, -1], a: [-1, 0], s: [0, 1], d: [1, 0] };

function onKey(event) {
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (name === 'PageUp' || name === 'PageDown') { KEYS[name](); return true; }
  if (!state.clip || $('#work').hidden) return false;
  if ((name === 'Enter' || name === ' ') && event.target.matches('button, a')) return false;
  const steps = { ArrowLeft: -1, ArrowRight: 1 }[name];
  if (steps) { stopPlaying(); seek(state.at + steps * (event.shiftKey ? 10 : 1)); return true; }
  if (name === 'Home' || name === 'End') { seek(name === 'Home' ? 0 : state.clip.frames - 1); return true; }
  if (CROSS[name]) { moveCross(...CROSS[name], event.shiftKey); return true; }
  if (/^[1-9]$/.test(name) && objects()[name - 1]) { select(objects()[name - 1].object); return true; }
  if (!KEYS[name] || event.repeat) return false;
  KEYS[name]();
  return true;
}

layout();
onKeys(onKey);
await signIn();
const project = await told(() => api('/api/project'));
if (project) {
  state.clips = project.clips;
  $('#clips').append(...project.clips.map((c) => element('option', { value: c.clip },
    c.reason ? `${c.video_id} (does not open)` : `${c.video_id}${c.clicks ? ` (${c.objects} objects, ${c.clicks} points)` : ''}`)));
  const bad = project.clips.filter((c) => c.reason);
  $('#progress').textContent = `${project.clips.length} clips${bad.length ? `, ${bad.length} do not open` : ''}`;
  const place = project.place && project.clips.find((c) => c.clip === project.place.clip && !c.reason) ? project.place : null;
  const first = place ?? project.clips.find((c) => !c.reason);
  if (first) await openClip(first.clip, place ?? {});
  else say(project.clips.length ? bad.map((c) => `${c.video_id}: ${c.reason}`).join('\n') : 'There are no clips in this project.');
}
window.addEventListener('resize', () => state.clip && render());
