// One strip an object: how sure its masklet is in every frame, where it has points, and where it is absent.
import { colour, element, titleOf } from './common.js';

const ROWS = 24;

export function drawStrips(home, clip, at, selected, seek) {
  if (home.dataset.objects !== clip.objects.map((o) => o.object).join()) {
    home.replaceChildren(...clip.objects.flatMap((o) => {
      const canvas = element('canvas', { ariaLabel: `Frames of ${o.name || o.object_id}` });
      canvas.addEventListener('click', (event) => {
        const box = canvas.getBoundingClientRect();
        seek(Math.floor((event.clientX - box.left) / box.width * clip.frames), o.object);
      });
      return [element('span', {}, ''), canvas];
    }));
    home.dataset.objects = clip.objects.map((o) => o.object).join();
  }
  clip.objects.forEach((o, i) => {
    const name = home.children[2 * i];
    name.textContent = titleOf(o);
    name.title = o.object_id;
    name.style.fontWeight = o.object === selected ? 700 : 400;
    draw(home.children[2 * i + 1], clip, o, colour(i), at);
  });
}

function draw(canvas, clip, object, paint, at) {
  const width = Math.max(100, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
  Object.assign(canvas, { width, height: ROWS * 2 });
  const context = canvas.getContext('2d');
  const step = width / clip.frames;
  const bar = (t, top, height, style, thin = 0) => {
    context.fillStyle = style;
    context.fillRect(t * step, top, Math.max(thin, Math.ceil(step)), height);
  };
  for (const [t, sure] of Object.entries(object.confidence)) {
    context.globalAlpha = 0.25 + 0.75 * sure;
    bar(Number(t), ROWS * 2 * (1 - sure), ROWS * 2 * sure, paint);
  }
  context.globalAlpha = 1;
  for (const t of object.absent) bar(t, 0, ROWS * 2, '#888');
  for (const t of object.given) bar(t, 0, 8, '#39f', 4);
  for (const [, t, , , label] of object.points) {
    const left = (t + 0.5) * step - 4;
    context.fillStyle = '#000';
    context.fillRect(left - 2, label === 1 ? ROWS : 0, 12, ROWS);
    context.fillStyle = { 1: '#16c172', 0: '#ff4d3d', '-1': '#ffc83d' }[label];
    context.fillRect(left, (label === 1 ? ROWS : 0) + 2, 8, ROWS - 4);
  }
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = 3;
  context.strokeRect(at * step + 1, 1, Math.max(4, step) - 2, ROWS * 2 - 2);
}
