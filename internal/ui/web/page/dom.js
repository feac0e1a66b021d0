// Small help with the document. Text goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

// el makes an element; props are its properties, or attributes where there is
// a dash in the name.
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-")) e.setAttribute(name, value);
    else e[name] = value;
  }
  e.append(...children);
  return e;
}

// setText changes only what differs, so that a live region speaks only then.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// debounced calls f once nothing has called for a while.
export function debounced(ms, f) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(f, ms, ...args);
  };
}

// remembered calls f only when what it is given differs from the last time.
export function remembered(f) {
  let last;
  return (value, ...rest) => {
    const text = JSON.stringify([value, ...rest]);
    if (text === last) return;
    last = text;
    f(value, ...rest);
  };
}
