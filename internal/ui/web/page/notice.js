// The bar at the bottom that says what became of an action.
import { $, el } from "./dom.js";

let undo;

function show(text, error, undoing) {
  undo = undoing;
  $("notice-text").replaceChildren(...text);
  $("notice-error").replaceChildren(...error);
  $("notice-undo").hidden = !undo;
  $("notice").hidden = false;
}

// inform says that something is done, and offers to undo it.
export const inform = (text, undoing) => show([text], [], undoing);

// complain says what did not work, and what to do.
export const complain = (error) => show([], explain(error));

// explain is an error as content. What cannot be translated comes last.
export const explain = (error) => [el("strong", { textContent: error.message }), ...(error.hint ? [el("span", { textContent: error.hint })] : []),
  ...(error.detail ? [el("span", { className: "detail", lang: "en", textContent: error.detail })] : [])];

export function close() {
  if ($("notice").contains(document.activeElement)) document.querySelector("[role=tab][aria-selected=true]")?.focus();
  $("notice").hidden = true;
}

// attempt runs an action of a control once at a time; a failure is told. What
// became of the action before goes, unless it can still be undone.
export async function attempt(control, action) {
  if (control.getAttribute("aria-busy") === "true") return;
  if (!undo) $("notice").hidden = true;
  control.setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    complain(error);
  } finally {
    control.removeAttribute("aria-busy");
  }
}

// onClick has a button run an action.
export const onClick = (button, action) => button.addEventListener("click", () => attempt(button, action));

export function start() {
  $("notice-close").addEventListener("click", close);
  onClick($("notice-undo"), async () => {
    const action = undo;
    close();
    await action();
  });
}
