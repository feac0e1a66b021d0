// Starts the page.
import * as activity from "./activity.js";
import * as bypass from "./bypass.js";
import * as doctor from "./doctor.js";
import { $ } from "./dom.js";
import * as general from "./general.js";
import * as live from "./live.js";
import * as notice from "./notice.js";
import { post } from "./api.js";
import * as proxy from "./proxy.js";
import * as signin from "./signin.js";
import * as status from "./status.js";
import * as tabs from "./tabs.js";
import * as texts from "./texts.js";
import * as welcome from "./welcome.js";

// The window waits for this call-back to know that there is a picture: two
// frames after the first state has been drawn.
function tellPainted() {
  let told = false;
  live.onStatus(() => {
    if (told) return;
    told = true;
    $("app").hidden = false;
    requestAnimationFrame(() => requestAnimationFrame(() => post("painted").catch(() => {})));
  });
}

// begin shows the page. Without its words there is none; what the server or the
// browser says on the next try is better than nothing.
async function begin() {
  for (const room of [notice, status, signin, proxy, bypass, activity, general, doctor, welcome]) room.start();
  texts.onLanguage(live.redraw);
  live.onLost(signin.leave);
  try {
    await texts.load();
  } catch {
    setTimeout(() => location.reload(), 2000);
    return;
  }
  tellPainted();
  if (!await welcome.show(tabs.start).catch(() => false)) tabs.start();
  live.start();
}

begin();
