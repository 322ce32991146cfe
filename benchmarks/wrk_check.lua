-- What wrk runs: one POST again and again, every answer checked.
-- In: `-- BODY PIECE [KEY]`; an answer is good if its status is 200 and PIECE stands in it.
-- Out: one line `checked KEY=VALUE...` for benchmarks/wrk.py. Latencies are microseconds.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  piece, answers, bad, first = args[2], 0, 0, ""
  local headers = {["Content-Type"] = "application/json", ["X-Api-Key"] = args[3]}
  text = wrk.format("POST", nil, headers, args[1])
end

function request()
  return text
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 or not body:find(piece, 1, true) then
    bad = bad + 1
    if first == "" then
      first = status .. " " .. body:sub(1, 120):gsub("%s+", " ")
    end
  end
end

function done(summary, latency)
  local answers, bad, first = 0, 0, ""
  for _, thread in ipairs(threads) do
    answers, bad = answers + thread:get("answers"), bad + thread:get("bad")
    first = first == "" and thread:get("first") or first
  end
  local errors = summary.errors
  io.write(string.format("checked answers=%d bad=%d broken=%d micros=%d p50=%d p99=%d first=%s\n",
    answers, bad, errors.connect + errors.read + errors.write + errors.timeout, summary.duration,
    latency:percentile(50), latency:percentile(99), first))
end
