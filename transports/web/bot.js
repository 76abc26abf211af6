// What the bot can do, as the server says; what makes no sense with it is hidden.

let bot = { name: "", hears: true, answers: true, speaks: true, page: true }; // as last told

/** Ask the server, and fit the page to the bot. Without an answer it stays as it is; at first everything is shown. */
export async function meetBot() {
  const found = await fetch("api/bot").then((response) => (response.ok ? response.json() : {}), () => ({}));
  bot = { ...bot, ...found };
  document.getElementById("bot-name").textContent = bot.name;
  for (const ability of ["hears", "answers", "speaks", "page"]) {
    document.body.dataset[ability] = bot[ability] ? "yes" : "no";
    for (const element of document.querySelectorAll(`.if-${ability}`)) element.classList.toggle("senseless", !bot[ability]);
    for (const element of document.querySelectorAll(`.unless-${ability}`)) element.classList.toggle("senseless", bot[ability]);
  }
  return bot;
}
