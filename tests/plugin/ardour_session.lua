-- Makes an Ardour session for test_ardour.py: one track with the plugin, mix 1, and its trigger parameter automated.
-- Arguments: folder, format (LV2, VST3), plugin's id, track (audio, midi), bpm, meter, and the frame of the trigger.
local folder, format, id, kind = arg[1], arg[2], arg[3], arg[4]
local bpm, meter_num, meter_den, trigger_frame = tonumber(arg[5]), tonumber(arg[6]), tonumber(arg[7]), tonumber(arg[8])

AudioEngine:set_backend("None (Dummy)", "", ""):set_buffer_size(512)
os.execute("rm -rf '" .. folder .. "'") -- of an attempt before
local session = create_session(folder, "session", 48000)
assert(session)

local map = Temporal.TempoMap.fetch_writable()
map:set_tempo(Temporal.Tempo(bpm, bpm, 4), Temporal.timepos_t(0))
map:set_meter(Temporal.Meter(meter_num, meter_den), Temporal.timepos_t(0))
Temporal.TempoMap.update(map)
map = nil

local last, normal = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
local track
if kind == "midi" then
  local midi, audio = ARDOUR.ChanCount(ARDOUR.DataType("midi"), 1), ARDOUR.ChanCount(ARDOUR.DataType("audio"), 2)
  local nothing = ARDOUR.PluginInfo()
  track = session:new_midi_track(midi, audio, true, nothing, nil, nil, 1, "track", last, normal, true):front()
else
  track = session:new_audio_track(2, 2, nil, 1, "track", last, normal, true):front()
end
local processor = ARDOUR.LuaAPI.new_plugin(session, id, ARDOUR.PluginType[format], "")
assert(not processor:isnil(), "the plugin was not made")
assert(track:add_processor_by_index(processor, 0, nil, true) == 0)

-- Ardour counts controls, inputs and outputs alike
local plugin = processor:to_insert():plugin(0)
local nth, port, controls = {}, {}, 0
for number = 0, plugin:parameter_count() - 1 do
  if plugin:parameter_is_control(number) then
    nth[plugin:parameter_label(number)], port[plugin:parameter_label(number)] = controls, number
    controls = controls + 1
  end
end
assert(ARDOUR.LuaAPI.set_processor_param(processor, nth["Mix"], 1))
local _, line = ARDOUR.LuaAPI.plugin_automation(processor, nth["Trigger"])
line:add(Temporal.timepos_t(0), 0, false, true)
line:add(Temporal.timepos_t(trigger_frame), 1, false, true)
line:set_interpolation(Evoral.InterpolationStyle.Discrete)
local trigger = Evoral.Parameter(ARDOUR.AutomationType.PluginAutomation, 0, port["Trigger"])
processor:to_automatable():automation_control(trigger, false):set_automation_state(ARDOUR.AutoState.Play)

session:save_state("", false, false, false, false, false)
for name in pairs(port) do print("port " .. name) end
print("inputs " .. track:n_inputs():n_audio() .. " outputs " .. track:n_outputs():n_audio())
close_session()
quit()
