// Small plots: what was over the last minutes as a line, what is now as a number.
// In: points [seconds ago, value], oldest first. Out: a figure that a screen reader can say too.
import {make, makeSvg, number, say} from './dom.js';
import {WINDOW_S} from './samples.js';

const WIDTH = 120, HEIGHT = 32;
const LEAST_S = 60;

export class Plot {
  constructor(name) {
    this.name = make('span', {}, name);
    this.now = make('strong');
    this.most = make('span', {class: 'soft'});
    this.area = makeSvg('path', {class: 'area'});
    this.line = makeSvg('path', {class: 'line'});
    this.picture = makeSvg('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img',
    }, this.area, this.line);
    this.element = make('figure', {class: 'plot', hidden: ''},
      make('figcaption', {}, this.now, this.name, this.most), this.picture);
  }

  show(points, name = this.name.textContent) {
    say(this.name, name);
    this.element.hidden = points.length === 0;
    if (!points.length) return;
    const now = points[points.length - 1][1];
    const most = Math.max(...points.map(([, value]) => value));
    say(this.now, number(now));
    say(this.most, most > 0 ? `up to ${number(most)}` : '');
    this.picture.setAttribute('aria-label',
      `${name}: ${number(now)} now, at most ${number(most)} since this page was opened, or in ${WINDOW_S / 60} minutes`);
    const span = Math.min(WINDOW_S, Math.max(LEAST_S, points[0][0]));
    const places = points.map(([ago, value]) => [
      (WIDTH * (1 - ago / span)).toFixed(1),
      (HEIGHT - 1.5 - (HEIGHT - 3) * (most > 0 ? value / most : 0)).toFixed(1),
    ]);
    const line = places.map(([x, y]) => `${x} ${y}`).join(' L ');
    this.line.setAttribute('d', `M ${line}`);
    this.area.setAttribute('d', `M ${places[0][0]} ${HEIGHT} L ${line} L ${places[places.length - 1][0]} ${HEIGHT} Z`);
  }
}
