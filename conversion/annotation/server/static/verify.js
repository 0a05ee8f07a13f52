// Verification: one candidate at a time. The next pictures are loaded in advance, answers are sent in the background in order,
// and none is forgotten before the server has it on its disk.
import { $, api, button, drawCross, element, frame, maskImage, onKeys, prefetch, say, showProgress, signIn, told } from './common.js';

const PARTS = { foreground: 'likely on the object', background: 'likely beside it', uncertain: 'uncertain places' };
const state = { task: null, order: [], at: 0, zoom: 0, shown: 0, history: [] };
const unsent = [];

function layout() {
  const answer = (name, text, key) => button(text, key, () => give(name), { className: name, id: `answer-${name}` });
  $('#main').append(element('div', { className: 'verify', id: 'work', hidden: true },
    element('section', { className: 'zoom' },
      element('h1', { className: 'question', id: 'question' }),
      element('canvas', { id: 'zoom' }),
      element('div', { className: 'answers' }, answer('yes', 'Yes', 'Y'), answer('no', 'No', 'N'), answer('unsure', 'Unsure', 'U')),
      element('div', { className: 'row tools' },
        button('Back', 'B', back, { id: 'back' }), button('Forward', '→', forward, { id: 'forward' }),
        button('Undo', 'Z', undo, { id: 'undo' }), button('Later', 'S', later, { id: 'later', title: 'Ask this at the end of the object' }),
        button('Skip object', 'X', skip, { id: 'skip', title: 'Leave this object to somebody else' }),
        button('Nearer', '+', () => zoomBy(0.7)), button('Farther', '−', () => zoomBy(1 / 0.7))),
    ),
    element('aside', { className: 'side' },
      element('div', { className: 'panel' }, element('p', { className: 'soft', id: 'count' }), element('progress', { id: 'bar' }),
        element('p', { className: 'soft', id: 'said' })),
      element('div', { className: 'panel' }, element('h3', {}, 'The object, where it was found'), element('canvas', { id: 'rough' }),
        element('div', { className: 'narrative', id: 'narrative' })),
      element('div', { className: 'panel' }, element('h3', { id: 'whole-title' }, 'The whole frame'), element('canvas', { id: 'whole' })))),
  element('div', { className: 'panel', id: 'done', hidden: true }));
}

const current = () => state.order[state.at];

async function next(quiet = false) {
  const answer = await (quiet ? api('/api/verify/next', {}).catch(() => null) : told(() => api('/api/verify/next', {})));
  if (!answer) return;
  showProgress(answer.progress);
  state.task = answer.task;
  $('#work').hidden = !answer.task;
  $('#done').hidden = Boolean(answer.task);
  if (!answer.task) return finished(answer.progress);
  const { task } = answer;
  state.order = task.questions;
  state.history = [];
  const open = task.questions.findIndex((q) => q.label === null);
  state.at = open < 0 ? task.questions.length - 1 : open;
  state.zoom = Math.max(64, task.size[0] / 4);
  describe(task);
  show();
  const frames = (list) => [...new Set(list.map((q) => q.frame))].map((index) => [task.clip, index]);
  await prefetch([[task.clip, task.rough.frame], ...frames(task.questions.slice(state.at)), ...frames(task.questions)]);
  if (answer.task === state.task && answer.upcoming) prefetch(answer.upcoming.frames.map((index) => [answer.upcoming.clip, index]), 1);
}

function finished(progress) {
  const box = $('#done');
  box.replaceChildren(element('h2', {}, progress.questions ? 'Nothing is left for you.' : 'There are no candidates in this project.'));
  if (progress.waiting) {
    box.append(element('p', {}, `${progress.waiting} objects are to be read a second time, by somebody else: sign in with another name.`));
  } else if (progress.questions > progress.answered) {
    box.append(element('p', {}, 'The others are held by other people, or you skipped them. Reload this page to look again.'));
  } else if (!progress.questions) {
    box.append(element('p', {}, 'Begin the server with --candidates, or click on objects: '), element('a', { href: '/click' }, 'Click'));
  }
  if (progress.answered) box.append(element('a', { href: '/review' }, 'Look at the points and export them'));
}

function describe(task) {
  const narrative = $('#narrative');
  narrative.replaceChildren(...task.narratives.map((pieces) => element('p', {},
    ...pieces.map((piece) => (piece.noun ? element('mark', {}, piece.text) : piece.text)))));
  if (!task.narratives.length) narrative.replaceChildren(element('p', { className: 'soft' }, `${task.name || task.object_id} in ${task.video_id}`));
  const question = $('#question');
  question.replaceChildren('Is this point on the ', element('mark', {}, task.name || task.object_id), '?');
  drawRough(task);
}

async function drawRough(task) {
  const bitmap = await told(() => frame(task.clip, task.rough.frame));
  if (!bitmap || state.task !== task) return;
  const [height, width] = task.size;
  const view = surroundings(task.rough.runs, width, height);
  const context = fit($('#rough'), Math.round(view.width), Math.round(view.height));
  const scale = bitmap.height / height;
  context.drawImage(bitmap, view.x * scale, view.y * scale, view.width * scale, view.height * scale, 0, 0, view.width, view.height);
  context.drawImage(maskImage(task.rough.runs, width, height, [255, 40, 200], 0.2), -view.x, -view.y);
}

// The part of a frame that shows an object of this mask large enough, in the shape of the frame.
function surroundings(runs, width, height) {
  let [left, right, top, bottom, position] = [width, 0, height, 0, 0];
  runs.forEach((length, i) => {
    if (i % 2) {
      const [first, last] = [position, position + length - 1];
      top = Math.min(top, Math.floor(first / width));
      bottom = Math.max(bottom, Math.floor(last / width));
      const oneRow = Math.floor(first / width) === Math.floor(last / width);
      left = Math.min(left, oneRow ? first % width : 0);
      right = Math.max(right, oneRow ? last % width : width - 1);
    }
    position += length;
  });
  const share = Math.min(1, Math.max(0.35, 1.8 * (bottom - top) / height, 1.8 * (right - left) / width));
  const size = { width: width * share, height: height * share };
  const start = (low, high, length, most) => Math.max(0, Math.min(most - length, (low + high) / 2 - length / 2));
  return { ...size, x: start(left, right, size.width, width), y: start(top, bottom, size.height, height) };
}

function fit(canvas, width, height) {
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext('2d');
}

async function show() {
  const question = current();
  const { task, order } = state;
  if (!question) return;
  const parts = [...new Set(order.map((q) => q.kind))];
  const done = order.filter((q) => q.label !== null).length;
  $('#count').textContent = `Question ${state.at + 1} of ${order.length}. Part ${parts.indexOf(question.kind) + 1} of ${parts.length}: ${PARTS[question.kind]}.`;
  $('#bar').max = order.length;
  $('#bar').value = done;
  $('#said').textContent = question.label ? `You said ${question.label}.` : ' ';
  for (const name of ['yes', 'no', 'unsure']) $(`#answer-${name}`).setAttribute('aria-pressed', question.label === name);
  $('#back').disabled = state.at === 0;
  $('#forward').disabled = question.label === null || state.at + 1 >= order.length;
  $('#undo').disabled = !state.history.length;
  $('#whole-title').textContent = `The whole frame (${task.names[question.frame]})`;
  const bitmap = await told(() => frame(task.clip, question.frame));
  if (!bitmap || current() !== question || state.task !== task) return;
  drawZoom(bitmap, question);
  drawWhole(bitmap, question);
  $('#zoom').dataset.candidate = question.candidate;
  state.shown = performance.now();
}

function windowOf(question) {
  const canvas = $('#zoom');
  const aspect = canvas.clientWidth / Math.max(1, canvas.clientHeight);
  const height = state.zoom;
  const width = height * aspect;
  return { x: question.x + 0.5 - width / 2, y: question.y + 0.5 - height / 2, width, height };
}

function drawZoom(bitmap, question) {
  const canvas = $('#zoom');
  const ratio = window.devicePixelRatio || 1;
  const context = fit(canvas, Math.max(1, Math.round(canvas.clientWidth * ratio)), Math.max(1, Math.round(canvas.clientHeight * ratio)));
  const view = windowOf(question);
  const [rows] = state.task.size;
  const scale = bitmap.height / rows;
  context.fillStyle = '#333';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, view.x * scale, view.y * scale, view.width * scale, view.height * scale, 0, 0, canvas.width, canvas.height);
  drawCross(context, canvas.width / 2, canvas.height / 2, 13 * ratio);
}

function drawWhole(bitmap, question) {
  const [height, width] = state.task.size;
  const scale = Math.max(1, 720 / width);
  const context = fit($('#whole'), Math.round(width * scale), Math.round(height * scale));
  context.scale(scale, scale);
  context.drawImage(bitmap, 0, 0, width, height);
  const view = windowOf(question);
  const line = Math.max(2 / scale, height / 160);
  for (const [style, w] of [['#000', line * 2], ['#fff', line]]) {
    context.strokeStyle = style;
    context.lineWidth = w;
    context.strokeRect(view.x, view.y, view.width, view.height);
  }
  drawCross(context, question.x + 0.5, question.y + 0.5, height / 40, line);
}

function give(label) {
  const question = current();
  if (!question) return;
  const seconds = Math.min(3600, (performance.now() - state.shown) / 1000);
  question.label = label;
  state.history.push(question);
  send(question, label, seconds);
  if (state.at + 1 < state.order.length) {
    state.at += 1;
    show();
  } else {
    closeTask();
  }
}

// At the end: what was left open is asked again, then the next object comes.
async function closeTask() {
  const open = state.order.findIndex((q) => q.label === null);
  if (open >= 0) {
    state.at = open;
    show();
    return;
  }
  await flush();
  if (!unsent.length) next();
}

function send(question, label, seconds = 0) {
  unsent.push({ task: state.task.task, candidate: question.candidate, label, seconds });
  flush();
}

// One at a time and in order; kept and tried again where the server is silent.
let sending = null;
function flush() {
  sending ??= sendAll().finally(() => { sending = null; });
  return sending;
}

async function sendAll() {
  try {
    while (unsent.length) {
      await api('/api/verify/answer', unsent[0]);
      unsent.shift();
      $('#main').dataset.unsent = unsent.length;
      if (!unsent.length) say('');
    }
  } catch (error) {
    $('#main').dataset.unsent = unsent.length;
    if ([400, 404, 409, 422].includes(error.status)) {
      const { task } = unsent[0];
      while (unsent.length && unsent[0].task === task) unsent.shift();
      say(`${error.message}. Your last answers to this object were not taken.`);
      if (state.task && state.task.task === task) next(true);
      return;
    }
    say(`${error.message}\n${unsent.length} answers are not saved yet; they are tried again every two seconds. Keep this page open.`);
    setTimeout(async () => {
      await flush();
      if (!unsent.length && state.order.every((q) => q.label !== null)) closeTask();
    }, 2000);
  }
}

function back() { if (state.at > 0) { state.at -= 1; show(); } }
function forward() { if (current().label !== null && state.at + 1 < state.order.length) { state.at += 1; show(); } }

function undo() {
  const question = state.history.pop();
  if (!question) return;
  question.label = null;
  send(question, null);
  state.at = state.order.indexOf(question);
  show();
}

function later() {
  const question = current();
  if (!question || question.label !== null || state.at + 1 >= state.order.length) return;
  state.order.splice(state.at, 1);
  state.order.push(question);
  show();
}

async function skip() {
  if (!state.task) return;
  await flush();
  if (await told(() => api('/api/verify/skip', { task: state.task.task }))) next();
}

function zoomBy(factor) {
  const [height] = state.task.size;
  state.zoom = Math.min(height * 2, Math.max(24, state.zoom * factor));
  show();
}

const KEYS = { y: () => give('yes'), 1: () => give('yes'), n: () => give('no'), 2: () => give('no'), u: () => give('unsure'), 3: () => give('unsure'),
  b: back, ArrowLeft: back, Backspace: back, ArrowRight: forward, z: undo, s: later, x: skip,
  '+': () => zoomBy(0.7), '=': () => zoomBy(0.7), '-': () => zoomBy(1 / 0.7) };

layout();
await signIn();
onKeys((event) => {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || !state.task || event.repeat && 'ynu123'.includes(event.key.toLowerCase())) return false;
  action();
  return true;
});
window.addEventListener('beforeunload', (event) => { if (unsent.length) event.preventDefault(); });
window.addEventListener('resize', () => state.task && show());
setInterval(async () => { if (state.task) showProgress(await api('/api/verify/progress').catch(() => null)); }, 5000);
await next();
