// The helper's state, kept fresh by its event stream.
import { get } from "./api.js";
import { $, setText } from "./dom.js";
import { onLanguage, t } from "./texts.js";

const longestWait = 10000;
const listeners = [];
let current;
let asking, again;
let wait = 1000;
let lost = false;

// status is what the helper said last.
export const status = () => current;

// onStatus has f called with each new status, and when times or words change.
export const onStatus = (f) => listeners.push(f);

export function redraw() {
  if (current) for (const f of listeners) f(current);
}

// refresh asks for the status. Calls while one is under way share the next.
export async function refresh() {
  again = true;
  asking ??= (async () => {
    try {
      while (again) {
        again = false;
        current = await get("v1/status");
      }
    } finally {
      asking = undefined;
    }
  })();
  await asking;
  redraw();
}

function setLost(is) {
  lost = is;
  $("lost").hidden = !is;
  setText($("lost"), is ? t("lost") : "");
  document.querySelector("main").classList.toggle("stale", is);
}

// listen follows the stream. It does not leave trying again to the browser,
// which gives up for good after some answers.
function listen() {
  const stream = new EventSource("v1/events");
  let over = false;
  const fail = () => {
    if (over) return;
    over = true;
    stream.close();
    setLost(true);
    setTimeout(listen, wait);
    wait = Math.min(wait * 2, longestWait);
  };
  stream.addEventListener("open", () => {
    wait = 1000;
    setLost(false);
    refresh().catch(fail);
  });
  stream.addEventListener("changed", () => refresh().catch(fail));
  stream.addEventListener("error", fail);
}

export function start() {
  onLanguage(() => setLost(lost));
  listen();
  setInterval(redraw, 15000);
}
