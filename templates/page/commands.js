// How a model is called from elsewhere: commands and settings to copy.
// In: a model. Out: elements. A key is never in them, only where it has to go.
import {hasKey} from './api.js';
import {make, say} from './dom.js';

function curl(model, base) {
  const body = JSON.stringify({model: model.name, messages: [{role: 'user', content: 'Hello'}]});
  const key = hasKey() ? '  -H "Authorization: Bearer $API_KEY" \\\n' : '';
  return `curl ${base}/chat/completions \\\n${key}  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}

function python(model, base) {
  const key = hasKey() ? 'os.environ["API_KEY"]' : '"none"';
  return `${hasKey() ? 'import os\n\n' : ''}from openai import OpenAI

client = OpenAI(base_url="${base}", api_key=${key})
answer = client.chat.completions.create(
    model="${model.name}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`;
}

function continueYaml(model, base) {
  return `name: llm-reconcile
version: 0.0.1
schema: v1
models:
  - name: ${JSON.stringify(model.name)}
    provider: openai
    model: ${JSON.stringify(model.name)}
    apiBase: ${base}
    apiKey: ${hasKey() ? '${{ secrets.API_KEY }}' : 'none'}`;
}

function zed(model, base, context) {
  const own = {name: model.name, max_tokens: context};
  const provider = {api_url: base, available_models: [own]};
  return JSON.stringify({language_models: {openai_compatible: {'llm-reconcile': provider}}}, null, 2);
}

function vscode(model, base, context) {
  return JSON.stringify([{
    name: 'llm-reconcile',
    vendor: 'customendpoint',
    apiType: 'chat-completions',
    models: [{
      id: model.name,
      name: model.name,
      url: `${base}/chat/completions`,
      toolCalling: true,
      vision: false,
      maxInputTokens: Math.ceil(context * 0.75),
      maxOutputTokens: Math.floor(context * 0.25),
    }],
  }], null, 2);
}

const WAYS = [
  ['curl', '', curl],
  ['Python', 'the openai package', python],
  ['Continue', '~/.continue/config.yaml', continueYaml],
  ['Zed', 'settings.json; a key: LLM_RECONCILE_API_KEY in its environment', zed],
  ['VS Code', 'chatLanguageModels.json (Chat: Manage Language Models, Custom Endpoint)', vscode],
];
const USUAL_CONTEXT = 8192;

async function copy(block, button) {
  try {
    await navigator.clipboard.writeText(block.textContent);
  } catch {
    // Only pages of https and of this machine get a clipboard; the old way works everywhere.
    getSelection().selectAllChildren(block);
    document.execCommand('copy');
  }
  say(button, 'Copied');
  setTimeout(() => say(button, 'Copy'), 1500);
}

// `context`: the tokens that fit, where known.
export function commands(model, context) {
  const base = `${location.origin}/v1`;
  return WAYS.map(([name, where, write]) => {
    const block = make('pre', {tabindex: 0, role: 'group', 'aria-label': `${name} for ${model.name}`},
      write(model, base, context || USUAL_CONTEXT));
    const button = make('button', {type: 'button', 'aria-label': `Copy ${name}`}, 'Copy');
    button.addEventListener('click', () => copy(block, button));
    const head = make('div', {class: 'row'},
      make('h3', {}, name), make('span', {class: 'soft'}, where), button);
    return make('div', {class: 'command'}, head, block);
  });
}
