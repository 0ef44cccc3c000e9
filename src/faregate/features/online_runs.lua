-- The features of one set, kept and read in Valkey: `observe` and `reverse` are called once an event, each is atomic.
--
-- A run is a string: a head, then a record an event, in the order of events.
--   head    events and total before the first record, the origin of the running totals, how many blocks were cut off
--   record  second, place within it; then the running total of a number, or the code of a text, or nothing
-- `holds` of a run says which of the three it is: a record takes 15, 16 or 8 bytes.
-- What is between two places is the difference of two totals, found by halving: no window is ever walked through.
-- Of a run with many events the older ones are cut off into blocks under keys of their own; a directory says what is
-- before the first record of each, so that one block is read, however many there are. Totals inside a block count from
-- an origin of its own, so that an event that comes late rewrites one block and adds to the later lines of the directory.
-- A pane is a field of a hash, a grain each: the least and greatest number, or the codes of the texts that occurred.

local PLAN = @PLAN@
local PREFIX = '@PREFIX@'
local APPLIED, DUPLICATE, REVERSED, CONFLICT = 0, 1, 2, 3
local HEAD, ENTRY = 28, 36
local TAIL_MAX, CUT, BLOCK_MAX, FEW = @LAYOUT@
local SIZES = { totals = 15, codes = 16, places = 8 }
local PANES_SPARE = 16
local TOTAL_MAX = 9007199254740991
local NOTHING = 0 / 0
-- While a library is loaded it can use nothing of the server.
local call, floor, pack, unpack_bytes

local function begin()
  if not call then
    call, floor, pack, unpack_bytes = server.call, math.floor, struct.pack, struct.unpack
  end
end

-- Blocks: `text` holds `n` records of `size` bytes from byte `at` on; `base_n`, `base_s` are what is before them.

local function record_at(block, index)
  return unpack_bytes('<I4I4', block.text, block.at + index * block.size)
end

local function total_at(block, index)
  if index < 0 then return block.base_s - block.origin end
  return (unpack_bytes('<i7', block.text, block.at + index * block.size + 8))
end

local function code_at(block, index)
  local from = block.at + index * block.size + 8
  return string.sub(block.text, from, from + 7)
end

-- How many records of a block are before a place; those at the place too with `through`.
local function rank(block, second, within, through)
  local low, high = 0, block.n
  while low < high do
    local middle = floor((low + high) / 2)
    local s, w = record_at(block, middle)
    if s < second or (s == second and (w < within or (through and w == within))) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- What an entity is called comes last in each key: no name can make it another's.
local function block_key(run, number)
  return run.number .. 'b' .. number .. run.entity
end

local function open_run(number, entity)
  local spec = PLAN.runs[number]
  local run = { spec = spec, number = PREFIX .. number, entity = ':' .. entity, blocks = 0 }
  run.codes, run.totals = spec.holds == 'codes', spec.holds == 'totals'
  run.size = SIZES[spec.holds]
  run.key, run.directory = run.number .. run.entity, run.number .. 'd' .. run.entity
  local text = call('GET', run.key)
  local tail = { is_tail = true, size = run.size, at = HEAD + 1, n = 0, base_n = 0, base_s = 0, origin = 0, text = '' }
  if text then
    tail.base_n, tail.base_s, tail.origin, run.blocks = unpack_bytes('<dddI4', text)
    tail.text, tail.n = text, (#text - HEAD) / run.size
  end
  run.tail = tail
  return run
end

-- What a call changes of a tail is written once, at its end. Not appended to: a string that grows in place is given
-- twice its length, and that would be most of the memory of entities with few events.
local function set_tail(run, records)
  run.tail.text, run.tail.at, run.tail.n = records, 1, #records / run.size
end

local function records_of(block)
  return string.sub(block.text, block.at)
end

local function write_tail(run)
  local tail = run.tail
  local head = pack('<dddI4', tail.base_n, tail.base_s, tail.origin, run.blocks)
  call('SET', run.key, head .. records_of(tail), 'EX', run.spec.ttl)
  run.end_of_window = nil
end

-- The directory.

local function lines(run)
  if run.blocks == 0 then return 0 end
  if not run.lines then run.lines = call('STRLEN', run.directory) / ENTRY end
  return run.lines
end

local function line(run, index)
  local text = call('GETRANGE', run.directory, (index - 1) * ENTRY, index * ENTRY - 1)
  local second, within, base_n, base_s, origin, number = unpack_bytes('<I4I4dddI4', text)
  return { second = second, within = within, base_n = base_n, base_s = base_s, origin = origin, number = number }
end

local function line_text(entry)
  return pack('<I4I4dddI4', entry.second, entry.within, entry.base_n, entry.base_s, entry.origin, entry.number)
end

local function block_of(run, index)
  local entry = line(run, index)
  entry.index, entry.at, entry.size = index, 1, run.size
  entry.text = call('GET', block_key(run, entry.number)) or ''
  entry.n = #entry.text / run.size
  return entry
end

-- The block in which a place is, or would be.
local function find(run, second, within)
  local tail = run.tail
  local count = lines(run)
  if count == 0 then return tail end
  if tail.n > 0 then
    local s, w = record_at(tail, 0)
    if s < second or (s == second and w <= within) then return tail end
  end
  local low, high = 1, count
  while low < high do
    local middle = floor((low + high + 1) / 2)
    local entry = line(run, middle)
    if entry.second < second or (entry.second == second and entry.within <= within) then
      low = middle
    else
      high = middle - 1
    end
  end
  return block_of(run, low)
end

local function after(run, block)
  if block.is_tail then return nil end
  if block.index < lines(run) then return block_of(run, block.index + 1) end
  return run.tail
end

local function before(run, block)
  local index = block.is_tail and lines(run) or block.index - 1
  if index >= 1 then return block_of(run, index) end
end

-- Events and total up to a place, and where that is.
local function measure(run, second, within, through)
  local block = find(run, second, within)
  local k = rank(block, second, within, through)
  local total = 0
  if run.totals then total = block.origin + total_at(block, k - 1) end
  return block.base_n + k, total, block, k
end

-- Calls `see` with the block and index of each record from a second on up to a place, until it returns true.
local function each(run, first, second, within, through, see)
  local _, _, block, k = measure(run, first, 0, false)
  while block do
    local last = rank(block, second, within, through)
    for index = k, last - 1 do
      if see(block, index) then return end
    end
    if last < block.n then return end
    block, k = after(run, block), 0
  end
end

local function value_at(run, block, index)
  if run.codes then return code_at(block, index) end
  return total_at(block, index) - total_at(block, index - 1)
end

-- Adds to the totals of records.
local function shifted(run, records, by)
  if not run.totals or by == 0 or records == '' then return records end
  local parts = {}
  for index = 0, #records / run.size - 1 do
    local s, w, total = unpack_bytes('<I4I4i7', records, index * run.size + 1)
    parts[index + 1] = pack('<I4I4i7', s, w, total + by)
  end
  return table.concat(parts)
end

-- Writes a block after an event came into it or left it, and what is before all that follow.
local function save_block(run, block, records, count, by)
  if block.is_tail then return set_tail(run, records) end
  local begin = (block.index - 1) * ENTRY
  local directory = call('GETRANGE', run.directory, begin, -1)
  local parts = {}
  local rest = nil
  if #records > BLOCK_MAX * run.size then
    local half = floor(#records / run.size / 2)
    rest, records = string.sub(records, half * run.size + 1), string.sub(records, 1, half * run.size)
  end
  if #records > 0 then block.second, block.within = unpack_bytes('<I4I4', records) end
  call('SET', block_key(run, block.number), records, 'EX', run.spec.ttl)
  parts[1] = line_text(block)
  if rest then
    local entry = { base_n = block.base_n + #records / run.size, base_s = 0, origin = block.origin }
    if run.totals then
      entry.base_s = block.origin + unpack_bytes('<i7', records, #records - 6)
    end
    entry.second, entry.within = unpack_bytes('<I4I4', rest)
    run.blocks = run.blocks + 1
    entry.number = run.blocks
    call('SET', block_key(run, entry.number), rest, 'EX', run.spec.ttl)
    parts[2] = line_text(entry)
  end
  for from = ENTRY + 1, #directory, ENTRY do
    local s, w, base_n, base_s, origin, number = unpack_bytes('<I4I4dddI4', directory, from)
    parts[#parts + 1] = pack('<I4I4dddI4', s, w, base_n + count, base_s + by, origin + by, number)
  end
  call('SETRANGE', run.directory, begin, table.concat(parts))
  call('EXPIRE', run.directory, run.spec.ttl)
  run.lines = nil
  local tail = run.tail
  tail.base_n, tail.base_s, tail.origin = tail.base_n + count, tail.base_s + by, tail.origin + by
end

-- Panes.

local function pane_key(run, number)
  return run.number .. 'p' .. number .. run.entity
end

local function holds(codes, code)
  for from = 1, #codes, 8 do
    if string.sub(codes, from, from + 7) == code then return true end
  end
  return false
end

-- Forgets old panes a few at a time: a hash of a few hundred fields is looked through for each field that is asked for.
local function begin_pane(run, number, spec, oldest)
  local key = pane_key(run, number)
  if call('HLEN', key) < run.spec.keep / spec.grain + PANES_SPARE then return end
  for _, known in ipairs(call('HKEYS', key)) do
    if tonumber(known) < floor(oldest / spec.grain) then call('HDEL', key, known) end
  end
end

local function add_to_panes(run, second, value, oldest)
  for number, spec in ipairs(run.spec.panes) do
    local key, pane = pane_key(run, number), string.format('%d', floor(second / spec.grain))
    local found = call('HGET', key, pane)
    local changed = nil
    if not found then
      begin_pane(run, number, spec, oldest)
      changed = run.codes and value or pack('<dd', value, value)
    elseif run.codes then
      if #found < spec.cap * 8 and not holds(found, value) then changed = found .. value end
    else
      local least, greatest = unpack_bytes('<dd', found)
      if value < least or value > greatest then
        changed = pack('<dd', math.min(least, value), math.max(greatest, value))
      end
    end
    if changed then
      call('HSET', key, pane, changed)
      call('EXPIRE', key, run.spec.ttl)
    end
  end
end

-- What a pane would hold of its events up to a place.
local function gathered(run, spec, first, second, within, through)
  local least, greatest, codes, count = NOTHING, NOTHING, '', 0
  each(run, first, second, within, through, function(block, index)
    local value = value_at(run, block, index)
    count = count + 1
    if run.codes then
      if not holds(codes, value) then codes = codes .. value end
      return #codes >= spec.cap * 8
    end
    if count == 1 or value < least then least = value end
    if count == 1 or value > greatest then greatest = value end
  end)
  if count == 0 then return nil end
  return run.codes and codes or pack('<dd', least, greatest)
end

local function take_from_panes(run, second)
  for number, spec in ipairs(run.spec.panes) do
    local key, pane = pane_key(run, number), floor(second / spec.grain)
    local first = pane * spec.grain
    local left = gathered(run, spec, first, first + spec.grain - 1, 4294967295, true)
    pane = string.format('%d', pane)
    if left then call('HSET', key, pane, left) else call('HDEL', key, pane) end
  end
end

-- Events come and go.

-- Puts records of the tail behind those of the last block: of an entity with many events a block is nearly full.
local function lengthen(run, block, records)
  local text = block.text .. shifted(run, records, run.tail.origin - block.origin)
  call('SET', block_key(run, block.number), text, 'EX', run.spec.ttl)
end

local function begin_block(run, records)
  local tail = run.tail
  local s, w = record_at(tail, 0)
  run.blocks = run.blocks + 1
  local entry = { second = s, within = w, base_n = tail.base_n, base_s = tail.base_s, origin = tail.origin, number = run.blocks }
  call('SET', block_key(run, entry.number), records, 'EX', run.spec.ttl)
  call('APPEND', run.directory, line_text(entry))
  run.lines = nil
end

-- Cuts old records off a tail that grew, and forgets blocks that no window reaches any more.
local function cut(run, oldest)
  local tail = run.tail
  local records = records_of(tail)
  local old = string.sub(records, 1, CUT * run.size)
  local last = lines(run) >= FEW and block_of(run, lines(run))
  if last and last.n + CUT <= BLOCK_MAX then lengthen(run, last, old) else begin_block(run, old) end
  local forgotten = 0
  while lines(run) - forgotten >= 2 and line(run, forgotten + 2).second < oldest do
    forgotten = forgotten + 1
    call('DEL', block_key(run, line(run, forgotten).number))
  end
  if forgotten > 0 then
    call('SET', run.directory, call('GETRANGE', run.directory, forgotten * ENTRY, -1))
    run.lines = nil
  end
  call('EXPIRE', run.directory, run.spec.ttl)
  if run.totals then tail.base_s = tail.origin + total_at(tail, CUT - 1) end
  tail.base_n = tail.base_n + CUT
  set_tail(run, string.sub(records, CUT * run.size + 1))
end

local function forget_expired(run, oldest)
  local tail = run.tail
  local expired = rank(tail, oldest, 0, false)
  if expired == 0 then return end
  if run.totals then tail.base_s = tail.origin + total_at(tail, expired - 1) end
  tail.base_n = tail.base_n + expired
  for index = 1, lines(run) do call('DEL', block_key(run, line(run, index).number)) end
  if run.blocks > 0 then call('DEL', run.directory) end
  run.blocks, run.lines = 0, nil
  set_tail(run, string.sub(tail.text, tail.at + expired * run.size))
end

-- Returns false if the event is there already.
local function insert(run, second, within, value, oldest)
  local block = find(run, second, within)
  local k = rank(block, second, within, false)
  if k < block.n then
    local s, w = record_at(block, k)
    if s == second and w == within then return false end
  end
  local record, by = pack('<I4I4', second, within), 0
  if run.codes then
    record = record .. value
  elseif run.totals then
    record, by = record .. pack('<i7', total_at(block, k - 1) + value), value
  end
  local border = block.at + k * run.size
  local earlier, later = string.sub(block.text, block.at, border - 1), string.sub(block.text, border)
  save_block(run, block, earlier .. record .. shifted(run, later, by), 1, by)
  if run.tail.n > TAIL_MAX then cut(run, oldest) end
  forget_expired(run, oldest)
  write_tail(run)
  add_to_panes(run, second, value, oldest)
  return true
end

-- Returns false if the event is not there.
local function remove(run, second, within)
  local block = find(run, second, within)
  local k = rank(block, second, within, false)
  if k >= block.n then return false end
  local s, w = record_at(block, k)
  if s ~= second or w ~= within then return false end
  local by = run.totals and value_at(run, block, k) or 0
  local border = block.at + k * run.size
  local earlier, later = string.sub(block.text, block.at, border - 1), string.sub(block.text, border + run.size)
  save_block(run, block, earlier .. shifted(run, later, -by), -1, -by)
  write_tail(run)
  take_from_panes(run, second)
  return true
end
