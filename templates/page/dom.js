// Making and changing elements, and how values read.
// In: texts and numbers, whoever they come from. Out: elements. Texts are set as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

export const byId = id => document.getElementById(id);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child !== null));
  return node;
}

export function make(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

// Only what is another text is touched: a selection in the rest stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function sayWhereThere(node, text) {
  say(node, text || '');
  node.hidden = !text;
}

export function size(bytes) {
  if (typeof bytes !== 'number') return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let step = 0;
  for (; bytes >= 1024 && step < units.length - 1; step += 1) bytes /= 1024;
  return `${bytes.toFixed(step && bytes < 100 ? 1 : 0)} ${units[step]}`;
}

export function number(value) {
  if (value > 0 && value < 0.05) return '< 0.1';
  return value.toLocaleString('en', {maximumFractionDigits: value < 100 ? 1 : 0});
}

// Two units at most: 3 d 4 h, 2 min 5 s; or one.
export function duration(seconds, most = 2) {
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return '0 s';
  let left = Math.floor(seconds);
  return units.slice(first, first + most).map(([unit, length]) => {
    const count = Math.floor(left / length);
    left -= count * length;
    return count ? `${count} ${unit}` : '';
  }).filter(Boolean).join(' ');
}

export function since(unixSeconds) {
  return typeof unixSeconds === 'number' ? duration(Math.max(0, Date.now() / 1000 - unixSeconds)) : '';
}

export function ago(unixSeconds) {
  return `${duration(Math.max(0, Date.now() / 1000 - unixSeconds), 1)} ago`;
}

export function moment(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleString();
}

// A list whose items stay the same elements as long as their keys do.
export function keep(list, items, keyOf, create) {
  const known = new Map([...list.children].map(node => [node.dataset.key, node]));
  const wanted = items.map(item => {
    const node = known.get(keyOf(item)) || create(item);
    node.dataset.key = keyOf(item);
    return node;
  });
  wanted.forEach((node, place) => {
    if (list.children[place] !== node) list.insertBefore(node, list.children[place] || null);
  });
  while (list.children.length > wanted.length) list.lastChild.remove();
  return wanted;
}
