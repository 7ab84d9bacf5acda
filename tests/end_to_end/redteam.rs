//! The red team: attacks as games, each with its population, the attacker's knowledge, his target and his score, against real nodes and a
//! real gateway, in SQL as any analyst writes it. A game's score is compared with what guessing gets.
//!
//! Some games are open: the rules about single answers do not stop them, and they say so. Their scores are printed, so that nobody takes
//! rounding or noise for more than it is.

mod acro;
mod again;
mod conditions;
mod difference;
mod earlier;
mod linear;
mod margins;
mod missing;
mod nulls;
mod oracles;
mod payments;
mod people;
mod ranges;
mod reconstruct;
mod rests;
mod rules;
mod units;
mod utility;
mod world;

use self::world::{Score, World};

#[tokio::test]
async fn no_game_is_won_and_the_views_stay_useful() {
    let world = World::start().await;
    let mut scores: Vec<Score> = vec![
        payments::small_cells(&world).await,
        payments::fifty_rows(&world).await,
        payments::rows_of_one(&world).await,
        payments::dominance(&world).await,
        payments::one_value(&world).await,
        rests::dominated(&world).await,
        rests::made_up(&world).await,
        rests::too_large(&world).await,
        difference::by_one(&world).await,
        difference::in_one_statement(&world).await,
        difference::by_two_analysts(&world).await,
        difference::two_noises(&world).await,
        difference::tracker(&world).await,
        difference::with_many_backgrounds(&world).await,
        difference::with_many_backgrounds_and_noise(&world).await,
        again::tautologies(&world).await,
        again::averaging(&world).await,
        oracles::aiming(&world).await,
        oracles::having(&world).await,
        oracles::order(&world).await,
        oracles::smuggling(&world).await,
        oracles::errors(&world).await,
        oracles::time(&world).await,
        nulls::not_in(&world).await,
        nulls::in_place_of_withheld(&world).await,
        missing::beside_noise(&world).await,
        missing::invented_rows(&world).await,
        conditions::opposites(&world).await,
        conditions::three(&world).await,
        conditions::partners(&world).await,
        conditions::rows_of_one(&world).await,
        conditions::values_that_some_lack(&world).await,
        reconstruct::of_clubs(&world).await,
        reconstruct::of_small_regions(&world).await,
        reconstruct::of_small_regions_again(&world).await,
        reconstruct::by_lists(&world).await,
        reconstruct::by_wards(&world).await,
        reconstruct::by_wards_with_noise(&world).await,
        units::rows_that_all_have_alike(&world).await,
        units::edges_under_noise(&world).await,
        units::through_firms(&world).await,
        margins::two_worlds(&world).await,
        earlier::in_any_order(&world).await,
    ];
    scores.extend(ranges::quantiles(&world).await);
    scores.extend(ranges::beside_known_people(&world).await);
    scores.extend(units::one_giant(&world).await);
    scores.extend(margins::separate_totals(&world).await);
    scores.extend(margins::rolled_up(&world).await);
    scores.extend(earlier::of_all_groupings(&world).await);
    scores.extend(earlier::one_by_one(&world).await);
    scores.push(missing::an_objection(&world).await);
    scores.iter().for_each(|score| println!("{score}"));
    println!("{}", utility::measured(&world).await);
    let lost: Vec<String> = scores.iter().filter(|score| score.lost()).map(ToString::to_string).collect();
    assert!(lost.is_empty(), "{} games are won by the attacker:\n{}", lost.len(), lost.join("\n"));
}
