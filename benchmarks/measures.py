"""What the scorecard measures, in words: its rows and its measures; goes into every report.

What is judged is mono at 32 kHz, whatever the bundle plays. Some measures stand there twice: over everything, and
over what they can measure at all; what the song itself reaches is the row `real` in both cases.
"""

from __future__ import annotations

# What each row is, in the order of the table.
ROWS = {
    "model": "commanded, bundle's guidance",
    "guidance_1": "commanded, no guidance",
    "no_conditioning": "nothing commanded",
    "chance": "wrong commands; untrained codec; unigrams",
    "other_song": "another real song in its place",
    "real": "the song itself",
    "codec": "the song through the codec",
    "phases": "its amplitudes, our phases",
    "unquantised": "codec without its quantiser",
}
# Made by the model; the others bound it.
PLAYED = ("model", "guidance_1", "no_conditioning")

# Published of the songs' values are the medians, but of these the means: a song gives few answers, and a median
# would hide the songs that fail.
MEANS = (
    "instrument_presence",
    "instrument_presence_on",
    "instrument_presence_off",
    "players_as_commanded",
    "continuation_style",
    "continuation_players",
)

# Measure: (heading of its line in the table, what it is).
MEASURES = {
    "onset_f1_70ms": (
        "onset F1, 70 ms",
        "F1 of beats picked from the sound (at most one a beat, the tempo known, its place not) against the "
        "commanded main pulses, within 70 ms; from half a beat after the join on. Chance: mean of shifted grids",
    ),
    "onset_f1_70ms_drums": (
        "  where drums play",
        "the same over the beats for which drums are commanded; songs with fewer than four are left out",
    ),
    "onset_f1_25ms": ("onset F1, 25 ms", "as onset_f1_70ms, within 25 ms"),
    "onset_f1_25ms_drums": ("  where drums play", "as onset_f1_70ms_drums, within 25 ms"),
    "drift_ms_64_bars": (
        "drift over {drift_bars} bars, ms",
        "how far the mean beat moves against the grid from the first 8 of so many bars to the last 8, either "
        "way; steady tempo; the first songs with drums at the join (of the rows below the model the first); left "
        "out where an end has fewer than four beats within 70 ms. Real: a song so long composed with these players",
    ),
    "level_rise_db_64_bars": (
        "level after {drift_bars} bars, dB",
        "root mean square of the last 8 of the same bars against the song before the join, without the engine's "
        "leveller. Real: that song's last 8 bars against as much of its beginning",
    ),
    "drift_ms_64_bars_played": (
        "  as the engine plays it",
        "drift_ms_64_bars of the same take played by a session, as a musician hears it: levelled, and begun anew "
        "at a bar where its level is lost",
    ),
    "level_rise_db_64_bars_played": (
        "  its level, dB",
        "level_rise_db_64_bars of the same take played by a session",
    ),
    "tempo_step_f1": (
        "tempo step F1, 70 ms",
        "as onset_f1_70ms over the 8 bars after a step from 100 to 130 BPM in mid-take that comes as a surprise: "
        "the 24 frames planned at the old tempo are rolled back. Real: the song composed with that step",
    ),
    "tempo_step_f1_drums": ("  where drums play", "the same over the songs whose drums are commanded throughout"),
    "chord_match": (
        "chord match",
        "share of the time of commanded chords (0.4 s or longer, a pitched player commanded) whose best fitting "
        "template, of all 24 triads and the chord, is made of commanded notes. Chance: the chords transposed",
    ),
    "chord_match_chords": (
        "  where chords play",
        "the same over the chords for which the chord player is commanded",
    ),
    "instrument_presence": (
        "switched players heard",
        "share of windows of 2 s, over 6 s from a bar after the join on, in which the ears hear a player as it was "
        "commanded at the join: one who played switched off, one who rested on. Chance: the opposite looked for in "
        "the model's. Nothing commanded: the same looked for in what it plays then. Real: a song of the same seed "
        "composed for these players",
    ),
    "instrument_presence_on": ("  switched on", "the same over the players that rested and were switched on"),
    "instrument_presence_off": ("  switched off", "the same over the players that played and were switched off"),
    "players_as_commanded": (
        "players as commanded",
        "share of windows of 2 s and players that the ears hear as commanded for most of the window, under the "
        "song's own commands",
    ),
    "continuation_style": (
        "style as before the join",
        "what the mean probabilities of the styles, by the ears, before and after the join have in common, 0..1",
    ),
    "continuation_players": (
        "players as before",
        "one less the mean difference of the players' mean probabilities, by the ears, before and after the join",
    ),
    "continuation_level_db": ("level from before, dB", "difference of level before and after the join, either way"),
    "variation_0": (
        "phrase again, amount 0",
        "share of a vamp's codes, two passes after the phrase, that are those of the phrase; amount 0, by the "
        "engine's own vamp. Chance (amount 1): two songs. Real (amount 1): the song's own next bars",
    ),
    "variation_0.5": ("  amount 0.5", "the same at amount 0.5"),
    "variation_1": ("  amount 1", "the same at amount 1"),
    "mel_distance": (
        "codec, log-mel distance",
        "mean difference of log10 mel amplitudes of the song and of what the codec makes of it, 0.1: 2 dB",
    ),
    "si_sdr_db": ("codec, SI-SDR dB", "of the same (Le Roux et al. 2019); it compares waves, which no one hears"),
    "bits_per_frame": (
        "bits per frame",
        "of the true codes of the continuation, each predicted from the truth before it; guidance plays no part",
    ),
    "seam_loudness_db": (
        "seam level, dB",
        "level of the second after the join against the second before, either way",
    ),
    "seam_flux_percentile": (
        "seam flux percentile",
        "share of the other beats whose attack is weaker than what the join sounds like; 50 is a beat like any",
    ),
}
